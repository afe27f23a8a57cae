import numpy as np
import pytest

from models.study.kept import FOLDER, Kept, read_kept, write_kept

N = 6


def rdm(seed, n=N):
    return np.random.default_rng(seed).uniform(0, 2, n * (n - 1) // 2)


@pytest.fixture
def rdms():
    return {name: {f"block{i}@32": rdm(i) for i in (1, 2, 3)} for name in ("92", "118")}


@pytest.mark.parametrize(
    ("stem", "network", "seed", "epoch", "run"),
    [
        ("resnet20-seed1-epoch005", "resnet20", 1, 5, "resnet20-seed1"),
        ("densenet121-seed12-epoch120", "densenet121", 12, 120, "densenet121-seed12"),
        ("a-seed1-seed2-epoch3", "a-seed1", 2, 3, "a-seed1-seed2"),
        ("efficientnet_lite0", "efficientnet_lite0", None, None, "efficientnet_lite0"),
        ("resnet20-seed1", "resnet20-seed1", None, None, "resnet20-seed1"),
    ],
)
def test_a_file_is_named_after_network_seed_and_epoch(stem, network, seed, epoch, run):
    kept = Kept.at(f"there/{stem}.npz")
    assert (kept.network, kept.seed, kept.epoch) == (network, seed, epoch)
    assert (kept.name, kept.run) == (stem, run)


def test_rdms_are_read_as_written_in_float16(tmp_path, rdms):
    path = tmp_path / "new" / "resnet20-seed0-epoch001.npz"
    assert write_kept(path, rdms) == []
    kept = Kept.at(path)
    assert kept.studies == ("92", "118")
    for name, by_layer in rdms.items():
        found = kept.rdms(name)
        assert list(found) == list(by_layer)
        for layer, values in by_layer.items():
            assert found[layer].dtype == np.float64
            np.testing.assert_array_equal(found[layer], values.astype(np.float16))
    again = tmp_path / "again.npz"
    write_kept(again, {name: kept.rdms(name) for name in kept.studies})
    assert Kept.at(again).rdms("118").keys() == kept.rdms("118").keys()
    np.testing.assert_array_equal(
        Kept.at(again).rdms("118")["block2@32"], kept.rdms("118")["block2@32"]
    )


def test_a_layer_that_cannot_be_compared_in_any_study_is_left_out_of_all(tmp_path, rdms):
    rdms["92"]["block1@32"][3] = np.nan
    rdms["118"]["block3@32"][:] = 0.5
    path = tmp_path / "resnet20-seed0-epoch001.npz"
    assert write_kept(path, rdms) == ["block1@32", "block3@32"]
    kept = Kept.at(path)
    assert list(kept.rdms("92")) == list(kept.rdms("118")) == ["block2@32"]


def test_files_are_in_order_of_network_seed_and_epoch(tmp_path, rdms):
    names = [
        "efficientnet_lite0",
        "resnet20-seed0-epoch005",
        "resnet20-seed0-epoch120",
        "resnet20-seed2-epoch010",
        "resnet20-seed10-epoch001",
    ]
    for name in reversed(names):
        write_kept(tmp_path / f"{name}.npz", rdms)
    assert [kept.name for kept in read_kept(tmp_path)] == names


def test_metrics_are_those_of_the_epoch(tmp_path):
    (tmp_path / "resnet20-seed0.csv").write_text("epoch,val_top1\n1,5.25\n5,23.9\n")
    path = tmp_path / "resnet20-seed0-epoch005.npz"
    assert Kept.at(path).metrics == {"epoch": 5, "val_top1": 23.9}
    assert Kept.at(tmp_path / "resnet20-seed0-epoch010.npz").metrics == {}
    assert Kept.at(tmp_path / "resnet20-seed1-epoch005.npz").metrics == {}
    assert Kept.at(tmp_path / "resnet20.npz").metrics == {}


def cut(content):
    return content[: len(content) // 2]


def change(content):
    # In the compressed numbers of the first array.
    return content[:200] + bytes(each ^ 255 for each in content[200:220]) + content[220:]


@pytest.mark.parametrize("damage", [cut, change, lambda content: b"", lambda content: b"text"])
def test_a_damaged_file_is_refused(tmp_path, rdms, damage):
    path = tmp_path / "resnet20-seed0-epoch001.npz"
    write_kept(path, rdms)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{path} is not a file of kept RDMs: "):
        Kept.at(path).rdms("92")


def test_other_errors_name_what_is_missing(tmp_path, rdms):
    path = tmp_path / "resnet20-seed0-epoch001.npz"
    with pytest.raises(ValueError, match=f"{tmp_path} has no kept RDMs, which are files NETWORK-"):
        read_kept(tmp_path)
    with pytest.raises(ValueError, match=f"{path} is not a file of kept RDMs: .*No such file"):
        Kept.at(path).rdms("92")
    write_kept(path, rdms)
    with pytest.raises(ValueError, match=f"{path} has no RDMs of the study '78'"):
        Kept.at(path).rdms("78")


def test_the_repository_keeps_complete_files():
    for kept in read_kept(FOLDER):
        layers = list(kept.rdms("92"))
        assert layers == list(kept.rdms("118")) == list(kept.rdms("78")), kept.name
        for name, n in (("92", 92), ("118", 118), ("78", 78)):
            values = np.stack(list(kept.rdms(name).values()))
            assert values.shape == (len(layers), n * (n - 1) // 2)
            assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 2
        assert (kept.epoch is None) == (kept.metrics == {}), kept.name


def test_the_sizes_of_a_pretrained_network_are_one_network(tmp_path):
    """In the order of the numbers, not of the names."""
    rng = np.random.default_rng(0)
    rdms = {size: {s: {f"fc@{size}": rng.random(6)} for s in ("92", "78")} for size in (224, 64)}
    for size, of_size in rdms.items():
        write_kept(tmp_path / f"lite@{size}.npz", of_size)
    (lite,) = read_kept(tmp_path)
    assert (lite.name, lite.run, lite.network, lite.epoch) == ("lite", "lite", "lite", None)
    assert lite.studies == ("92", "78")
    assert list(lite.rdms("92")) == ["fc@64", "fc@224"]
    expected = rdms[224]["78"]["fc@224"].astype(np.float16)
    np.testing.assert_array_equal(lite.rdms("78")["fc@224"], expected)
    (tmp_path / "lite@224.npz").write_text("text")
    with pytest.raises(ValueError, match=r"lite@224\.npz is not a file of kept RDMs"):
        read_kept(tmp_path)[0].rdms("92")
