import functools
import hashlib
import http.server
import threading

import pytest
import torch

from fastrdm.networks import WeightsError
from models.networks import NETWORKS, build, fetch, pretrained, url_of
from models.networks import published as module
from models.networks.architectures import TORCHVISION
from models.networks.published import MissingWeightsError

CONTENT = b"weights, as far as hashes go"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = f"resnet18-{SHA256[:8]}.pth"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """torch's cache in a temporary folder, and a URL with weights that the test writes."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(module, "url_of", lambda name: f"file://{tmp_path}/published/{NAME}")
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def served(tmp_path):
    """A folder, and the address at which a local server serves it."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def write(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_published_urls_have_their_checksum():
    names = [name for name in NETWORKS if url_of(name)]
    assert names == [*TORCHVISION, "cornet_s", "cornet_z"]
    for name in names:
        assert module._hash_in(module.file_name(url_of(name))), name
    assert url_of("resnet50").endswith("resnet50-0676ba61.pth"), "the first weights, not the best"
    assert url_of("cornet_z").endswith("/cornet_z-5c427c9c.pth")
    with pytest.raises(ValueError, match="no network 'resnet19'; nearest: resnet1"):
        url_of("resnet19")


@pytest.mark.parametrize("name", [NAME, "resnet18.safetensors", "resnet18.pth", "resnet18.pt"])
def test_the_folder_is_searched_first(tmp_path, cache, name):
    write(cache / NAME)
    own = write(tmp_path / "w" / name)
    assert pretrained("resnet18", tmp_path / "w") == own


def test_torchvisions_name_is_accepted(tmp_path):
    own = write(tmp_path / "w" / "inception_v3.pth")
    assert pretrained("inception", tmp_path / "w") == own


def test_the_cache_is_searched_before_the_url(tmp_path, cache):
    (tmp_path / "w").mkdir()
    assert not any(cache.iterdir())
    write(tmp_path / "published" / NAME)
    path = pretrained("resnet18", tmp_path / "w")
    assert path == cache / NAME and path.read_bytes() == CONTENT
    (tmp_path / "published" / NAME).unlink()
    assert pretrained("resnet18", download=False) == path


@pytest.mark.parametrize("where", ["w", "torch/hub/checkpoints"])
def test_a_file_with_another_hash_is_refused(tmp_path, where):
    (tmp_path / "w").mkdir()
    path = write(tmp_path / where / NAME, b"damaged")
    with pytest.raises(WeightsError, match=rf"{path}: its SHA-256 begins with \w{{8}}, not"):
        pretrained("resnet18", tmp_path / "w")


def test_missing_weights_list_the_searched_places(tmp_path, monkeypatch):
    (tmp_path / "w").mkdir()
    for download, reason in ((False, "downloads are not allowed"), (True, "cannot be downloaded")):
        with pytest.raises(MissingWeightsError) as caught:
            pretrained("resnet18", tmp_path / "w", download=download)
        message = str(caught.value)
        assert message.startswith(f"{NAME} is not in {tmp_path / 'w'} or {tmp_path / 'torch'}")
        assert reason in message and "\n" not in message
    monkeypatch.setattr(module, "url_of", url_of)
    with pytest.raises(MissingWeightsError, match="no weights of resnet20 were published"):
        pretrained("resnet20")
    with pytest.raises(NotADirectoryError, match="nothing is not a folder of weights"):
        pretrained("resnet18", tmp_path / "nothing")


def test_a_url_is_downloaded_once_and_checked(served, cache):
    folder, address = served
    file = write(folder / "mine.pth")
    url = f"{address}/mine.pth#sha256={SHA256}"
    assert fetch(url) == cache / "mine.pth"
    file.unlink()
    assert fetch(url).read_bytes() == CONTENT
    with pytest.raises(WeightsError, match="its SHA-256 begins with"):
        fetch(f"{address}/mine.pth#sha256={'0' * 64}")


def test_failed_downloads(served, cache):
    folder, address = served
    write(folder / "mine-00000000.pth")
    with pytest.raises(WeightsError, match='invalid hash value .expected "00000000"'):
        fetch(f"{address}/mine-00000000.pth")
    with pytest.raises(MissingWeightsError, match="cannot be downloaded: HTTP Error 404"):
        fetch(f"{address}/other-00000000.pth")
    with pytest.raises(ValueError, match="has no SHA-256 to check the weights with"):
        fetch(f"{address}/mine.pth")
    assert list(cache.iterdir()) == []


def test_a_published_densenet_loads_with_old_names(tmp_path):
    from fastrdm.networks import load_weights

    network = build("densenet121")
    old = {}
    for name, value in network.state_dict().items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            name = name.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
        old[name] = value
    assert not old.keys() <= network.state_dict().keys()
    torch.save(old, tmp_path / "old.pth")
    other = build("densenet121")
    load_weights(other, tmp_path / "old.pth")
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
