"""Folders of features as Net2Brain and thingsvision write them."""

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import fastrdm
from fastrdm import score_features
from fastrdm.cli import main

NAMES = [f"im_{i:02d}.png" for i in range(8)]
N = len(NAMES)
STEMS = [name.removesuffix(".png") for name in NAMES]
RNG = np.random.default_rng(0)
LAYERS = {
    "conv": RNG.standard_normal((N, 3, 4, 4)).astype(np.float32),
    "fc": RNG.standard_normal((N, 7)).astype(np.float32),
}
ALIKE = {name: RNG.standard_normal((N, 6)) for name in ("blocks.0", "blocks.1")}
FORMATS = ("npy", "hdf5", "mat", "txt", "pt")


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    (folder / "stimuli").mkdir(parents=True)
    for i, name in enumerate(NAMES):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(folder / "stimuli" / name)
    np.save(folder / "it.npy", np.random.default_rng(2).random((4, N * (N - 1) // 2)))
    (folder / "study.toml").write_text('order = "sorted"\n[targets.it]\nfile = "it.npy"\n')
    return folder


def net2brain(folder, layers, *, consolidated):
    """Write the files of Net2Brain's FeatureExtractor, whose arrays have a batch of one image."""
    folder.mkdir()
    images = {s: {n: v[i : i + 1] for n, v in layers.items()} for i, s in enumerate(STEMS)}
    if not consolidated:
        for stem, arrays in images.items():
            np.savez(folder / f"{stem}.npz", **arrays)
    else:
        for name in layers:
            # In any order, that of os.listdir.
            arrays = {stem: images[stem][name] for stem in reversed(STEMS)}
            np.savez_compressed(folder / f"{name}.npz", **arrays)
    return folder


def thingsvision(folder, array, kind, names=NAMES):
    """Write the files of thingsvision's save_features."""
    folder.mkdir(exist_ok=True)
    if names:
        (folder / "file_names.txt").write_text("".join(f"{name}\n" for name in names))
    path = folder / f"features.{kind}"
    if kind == "npy":
        np.save(path, array)
    elif kind == "hdf5":
        with h5py.File(path, "w") as file:
            file["features"] = array
    elif kind == "txt":
        np.savetxt(path, array)
    elif kind == "mat":
        savemat(path, dict(zip(STEMS, array, strict=True)) if names else {"features": array})
    else:
        torch = pytest.importorskip("torch")
        torch.save(torch.from_numpy(array), path)
    return folder


def check(folder, study, layers, **options):
    scores = score_features(folder, study, n_draws=0, **options)
    (opened,) = fastrdm.open_studies(study)
    rdms = {name: fastrdm.calc_rdm(v.reshape(N, -1)) for name, v in layers.items()}
    wanted = opened.targets["it"].score(rdms)
    found = {r.layer: r.rho for r in scores.results}
    assert sorted(found) == sorted(layers)
    for i, name in enumerate(layers):
        assert found[name] == pytest.approx(wanted.rho[i], abs=1e-6)


@pytest.mark.parametrize("layers", [LAYERS, ALIKE], ids=["shapes", "alike"])
@pytest.mark.parametrize("consolidated", [False, True])
def test_net2brain(study, tmp_path, layers, consolidated):
    folder = net2brain(tmp_path / "features", layers, consolidated=consolidated)
    check(folder, study, layers)


@pytest.mark.parametrize("consolidated", [False, True])
def test_net2brain_by_order(study, tmp_path, consolidated):
    """Names that are not those of the stimuli: shapes tell which axis a file is."""
    folder = net2brain(tmp_path / "features", LAYERS, consolidated=consolidated)
    for path in (study / "stimuli").iterdir():
        path.rename(path.with_name(f"other_{path.name}"))
    if consolidated:
        with pytest.raises(ValueError, match="no row for 8 of 8 stimuli"):
            score_features(folder, study)
    else:
        check(folder, study, LAYERS, rows="order")


def test_net2brain_that_is_not_clear(study, tmp_path):
    folder = net2brain(tmp_path / "features", ALIKE, consolidated=True)
    for path in (study / "stimuli").iterdir():
        path.rename(path.with_name(f"other_{path.name}"))
    with pytest.raises(ValueError, match="does not tell whether its .npz files are images or lay"):
        score_features(folder, study)


def test_net2brain_errors(study, tmp_path):
    folder = net2brain(tmp_path / "features", LAYERS, consolidated=False)
    np.savez(folder / "im_03.npz", conv=LAYERS["conv"][:1, :2], fc=LAYERS["fc"][:1])
    with pytest.raises(ValueError, match=r"im_03.npz, 'conv' has shape \(1, 2, 4, 4\), but im_00"):
        score_features(folder, study)
    np.savez(folder / "im_03.npz", conv=LAYERS["conv"][:1])
    with pytest.raises(ValueError, match=r"im_03.npz and im_00.npz are not features of one kind"):
        score_features(folder, study)


@pytest.mark.parametrize("kind", FORMATS)
def test_thingsvision(study, tmp_path, kind):
    folder = thingsvision(tmp_path / "fc", LAYERS["fc"], kind)
    check(folder, study, {"fc": LAYERS["fc"]})


@pytest.mark.parametrize("kind", ["npy", "mat"])
def test_thingsvision_without_names(study, tmp_path, kind):
    folder = thingsvision(tmp_path / "fc", LAYERS["fc"], kind, names=())
    with pytest.raises(ValueError, match="has no names of its 8 images"):
        score_features(folder, study)
    check(folder, study, {"fc": LAYERS["fc"]}, rows="order")


def test_thingsvision_layers_in_parts(study, tmp_path):
    """What `extract_features(…, output_dir=…)` writes: a folder for each module, in parts of some batches."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file_names.txt").write_text("\n".join(f"/data/{n}" for n in NAMES))
    for name, array in LAYERS.items():
        folder = tmp_path / "out" / name
        folder.mkdir()
        # As text, 4-8 is after 10-12.
        for low, high in ((0, 3), (3, 8)):
            np.save(folder / f"features_{low}-{high}.npy", array[low:high])
    check(tmp_path / "out", study, LAYERS)
    check(tmp_path / "out" / "fc", study, {"fc": LAYERS["fc"]})
    np.save(tmp_path / "out" / "fc" / "features_8-9.npy", np.zeros((1, 3)))
    with pytest.raises(ValueError, match="parts of the layer 'fc' in .* differ in shape"):
        score_features(tmp_path / "out", study)


def test_thingsvision_variables_in_another_order_than_the_names(study, tmp_path):
    folder = thingsvision(tmp_path / "fc", LAYERS["fc"], "mat")
    (folder / "file_names.txt").write_text("\n".join(reversed(NAMES)))
    check(folder, study, {"fc": LAYERS["fc"]})


def test_thingsvision_that_is_not_clear(study, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    thingsvision(out / "conv", LAYERS["conv"], "npy")
    thingsvision(out / "fc", LAYERS["fc"], "npy", names=NAMES[::-1])
    with pytest.raises(ValueError, match=r"fc has other names of images, or another order, than"):
        score_features(out, study)
    (out / "fc" / "file_names.txt").unlink()
    check(out, study, LAYERS)
    thingsvision(out / "fc", LAYERS["fc"], "txt")
    with pytest.raises(ValueError, match=r"several files, .*: features.npy, features.txt; keep"):
        score_features(out, study)


def test_unknown_folders(study, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file_names.txt").write_text("a\n")
    with pytest.raises(ValueError, match="a folder of features of an unknown form; known are"):
        score_features(tmp_path / "other", study)
    torch = pytest.importorskip("torch")
    torch.save({"a": 1}, tmp_path / "other" / "features.pt")
    with pytest.raises(ValueError, match="holds a dict, not a tensor"):
        score_features(tmp_path / "other", study)


def test_command_line(study, tmp_path, capsys):
    folder = net2brain(tmp_path / "features", LAYERS, consolidated=False)
    assert main(["score", str(folder), "--data", str(study), "--bootstrap", "0", "--json"]) == 0
    assert '"conv"' in capsys.readouterr().out
