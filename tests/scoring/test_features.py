"""Features that were saved elsewhere: files, names of images, and the same results as those of a network."""

import csv
import dataclasses
import json
import shutil
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_onnx import SIZE, write_small

import fastrdm
from fastrdm import score_features
from fastrdm.cli import main
from fastrdm.scoring import feature_files

NAMES = [f"im_{i:02d}.png" for i in range(12)]
N, SUBJECTS = len(NAMES), 4
RNG = np.random.default_rng(0)
LAYERS = {
    "conv": RNG.standard_normal((N, 3, 4, 4)).astype(np.float32),
    "fc": RNG.standard_normal((N, 7)),
}
# The rows of files are in another order than the stimuli.
ROWS = np.random.default_rng(1).permutation(N)


@pytest.fixture
def study(tmp_path):
    """A folder with a study of responses, which the layer fc predicts, and of RDMs."""
    folder = tmp_path / "study"
    (folder / "stimuli").mkdir(parents=True)
    for i, name in enumerate(NAMES):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(folder / "stimuli" / name)
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((7, 6))
    noise = rng.standard_normal((SUBJECTS, 3, N, 6))
    np.save(folder / "v4.npy", LAYERS["fc"] @ weights + 0.5 * noise)
    np.save(folder / "it.npy", rng.random((SUBJECTS, N * (N - 1) // 2)))
    (folder / "study.toml").write_text(
        'name = "mine"\norder = "sorted"\n[targets.v4]\nresponses = "v4.npy"\n'
        'measures = ["rsa", "ridge"]\nfolds = 3\n[targets.it]\nfile = "it.npy"\n'
    )
    return folder


def in_rows(layers=LAYERS):
    return {name: values[ROWS] for name, values in layers.items()}


def write(folder, kind, names=tuple(NAMES[i] for i in ROWS), layers=None):
    """Write features with their rows in another order; return the path."""
    layers = in_rows() if layers is None else layers
    named = {} if names is None else {"names": np.array(names)}
    path = folder / f"features.{kind.partition(' ')[0]}"
    if kind == "npz compressed":
        np.savez_compressed(path, **layers, **named)
    elif kind == "npz":
        np.savez(path, **layers, **named)
    elif kind.startswith("h5"):
        with h5py.File(path, "w") as file:
            for name, values in layers.items():
                options = {"chunks": (5, *values.shape[1:]), "compression": "gzip"}
                file.create_dataset(name, data=values, **(options if "chunked" in kind else {}))
            if names is not None and "attribute" in kind:
                file.attrs["image_names"] = list(names)
            elif names is not None:
                file["paths"] = [f"/data/images/{name}" for name in names]
    else:
        np.save(path, layers["conv"])
        if names is not None:
            rows = "".join(f"{i},{name}\n" for i, name in enumerate(names))
            path.with_suffix(".csv").write_text("row,stimulus\n" + rows)
    return path


def expected(study, region, layers=LAYERS):
    (opened,) = fastrdm.open_studies(study)
    rdms = {name: fastrdm.calc_rdm(values) for name, values in layers.items()}
    return opened.targets[region].score(rdms)


def values_of(scores, measure, region):
    return {r.layer: r for r in scores.results if (r.measure, r.region) == (measure, region)}


def rhos(scores):
    return [r.rho for r in scores.results]


@pytest.mark.parametrize(
    "kind", ["npz", "npz compressed", "h5", "h5 chunked", "h5 attribute", "npy"]
)
@pytest.mark.parametrize("block", [1 << 26, 100])
def test_files_of_features(study, tmp_path, monkeypatch, kind, block):
    monkeypatch.setattr(feature_files, "_BLOCK", block)
    scores = score_features(write(tmp_path, kind), study, n_draws=0)
    layers = {"features": LAYERS["conv"]} if kind == "npy" else LAYERS
    assert (scores.checkpoint, scores.error) == (str(tmp_path / f"features.{kind.split()[0]}"), "")
    for region in ("v4", "it"):
        found, score = values_of(scores, "rsa", region), expected(study, region, layers)
        assert list(found) == sorted(found) == list(layers)
        for i, name in enumerate(layers):
            assert found[name].rho == pytest.approx(score.rho[i], abs=1e-6)
            assert found[name].percent_nc == pytest.approx(score.percent_nc[i], abs=1e-4)
    (opened,) = fastrdm.open_studies(study)
    grams = fastrdm.gram({name: values[...] for name, values in layers.items()})
    responses = opened.responses["v4"].score(grams, "ridge", folds=3)
    found = values_of(scores, "ridge", "v4")
    for i, name in enumerate(layers):
        assert found[name].rho == pytest.approx(np.median(responses.r[i], axis=1), abs=1e-5)
    assert values_of(scores, "ridge", "it") == {}


def test_features_of_a_network_have_its_results(study, tmp_path):
    for i, name in enumerate(NAMES):
        pixels = np.random.default_rng(i).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(study / "stimuli" / name)
    path = write_small(tmp_path / "net.onnx", "net.onnx_data")
    options = {"taps": ["first", "second"], "preprocessing": fastrdm.Preprocessing((SIZE, SIZE))}
    measures = ["rsa", "cka"]
    (network,) = fastrdm.score_checkpoints([path], (), study, measures=measures, **options)
    assert network.error == ""
    (opened,) = fastrdm.open_studies(study)
    model = fastrdm.OnnxModel(path, **options)
    layers = model.activations(list(opened.stimuli))
    found = score_features(layers, study, names=opened.names, measures=measures)
    for own, other in zip(found.results, network.results, strict=True):
        assert dataclasses.replace(own, checkpoint=str(path)) == other


def test_features_in_memory(study):
    names = [NAMES[i] for i in ROWS]
    first = score_features(in_rows(), study, names=names)
    frames = {
        "conv": LAYERS["conv"][ROWS],
        "fc": pd.DataFrame(LAYERS["fc"][ROWS], index=names),
    }
    second = score_features(frames, study)
    assert first.checkpoint == "features"
    assert first.results == second.results
    assert len(first.results) == 6
    assert not np.isnan([r.low for r in first.results]).any()
    in_order = score_features(LAYERS, study, rows="order")
    np.testing.assert_allclose(rhos(in_order), rhos(first), atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda name: name.removesuffix(".png"),
        lambda name: name.replace(".png", ".jpg"),
        lambda name: f"C:\\data\\{name}",
        lambda name: f"stimuli/{name}",
    ],
)
def test_how_images_may_be_named(study, change):
    names = [change(NAMES[i]) for i in ROWS]
    found = score_features(in_rows(), study, names=names, measures=["rsa"], n_draws=0)
    same = score_features(LAYERS, study, rows="order", measures=["rsa"], n_draws=0)
    assert rhos(found) == rhos(same)


def test_rows_of_other_images_are_ignored(study):
    names = ["other.png", *NAMES, "more.png"]
    layers = {name: np.concatenate([v[:1] + 1, v, v[:1]]) for name, v in LAYERS.items()}
    found = score_features(layers, study, names=names, n_draws=0)
    same = score_features(LAYERS, study, rows="order", n_draws=0)
    np.testing.assert_allclose(rhos(found), rhos(same), atol=1e-6)


def test_half_precision_and_chosen_layers(study):
    half = {**LAYERS, "half": LAYERS["conv"].astype(np.float16)}
    found = score_features(half, study, rows="order", layers=["h*", "fc"], n_draws=0)
    layers = {"fc": LAYERS["fc"], "half": half["half"].astype(np.float64)}
    score = expected(study, "it", layers)
    for i, name in enumerate(layers):
        assert values_of(found, "rsa", "it")[name].rho == pytest.approx(score.rho[i], abs=1e-6)


def test_layers_that_another_study_chooses(study):
    (mine,) = fastrdm.open_studies(study)
    other = dataclasses.replace(mine, name="other")
    found = score_features(LAYERS, [mine, other], rows="order", regions=["it"], weighted=True)
    kinds = {(each.kind, each.judged_on, each.region) for each in found.held_out}
    assert ("chosen", "mine", "it") in kinds
    assert ("weighted", "other", "it") in kinds
    with pytest.raises(ValueError, match="no region is in two studies"):
        score_features(LAYERS, mine, rows="order", weighted=True)


@pytest.mark.parametrize("protocol", ["nsd", "algonauts2023", "brainscore-ridge"])
def test_regressions_under_a_convention(study, protocol):
    settings = study / "study.toml"
    settings.write_text(
        settings.read_text().replace("folds = 3", f'folds = 3\nprotocol = "{protocol}"')
    )
    (opened,) = fastrdm.open_studies(study)
    found = values_of(score_features(LAYERS, study, rows="order", n_draws=0), "ridge", "v4")
    options = {"alphas": [1.0]} if protocol == "brainscore-ridge" else {}
    grams = fastrdm.gram(LAYERS)
    expected = opened.responses["v4"].score(grams, "ridge", folds=3, **options).under(protocol)
    for i, name in enumerate(LAYERS):
        assert found[name].value == pytest.approx(expected.value[i], abs=1e-6)
        assert found[name].rho == pytest.approx(expected.per_subject[i], abs=1e-6)
        assert (found[name].percent_nc, found[name].ceiling) == (100 * found[name].value, 1)


def test_a_convention_needs_repeats(study):
    settings = study / "study.toml"
    settings.write_text(settings.read_text().replace("folds = 3", 'folds = 3\nprotocol = "nsd"'))
    np.save(study / "v4.npy", np.load(study / "v4.npy")[:, :1])
    with pytest.raises(
        ValueError, match=r"'nsd' needs repeats, and the region 'v4' of the study 'mine'"
    ):
        score_features(LAYERS, study, rows="order")


def test_constant_layers_have_no_score(study):
    layers = {"fc": LAYERS["fc"], "flat": np.ones((N, 5))}
    with pytest.warns(RuntimeWarning, match=r"layer 'flat' has no score on mine"):
        found = score_features(layers, study, rows="order", measures=["rsa"], n_draws=0)
    assert np.isnan(values_of(found, "rsa", "it")["flat"].r2)
    assert not np.isnan(values_of(found, "rsa", "it")["fc"].r2)


ERRORS = {
    "no names": (
        dict(names=None),
        r"has no names of its 12 images: add them as text .* --rows order",
    ),
    "too few": (
        dict(names=NAMES[:5]),
        r"has 5 names of images, but conv has 12 rows, shape \(12, 3, 4, 4\)",
    ),
    "missing": (
        dict(names=[*NAMES[:10], "x.png", "y.png"]),
        r"has no row for 2 of 12 stimuli of the study 'mine': im_10\.png, im_11\.png; its names are im_00",
    ),
    "twice": (
        dict(names=[*NAMES[:11], "im_00"]),
        r"has no row for 1 of 12 stimuli",
    ),
    "nan": (
        dict(layers={"fc": np.where(np.arange(7) == 2, np.nan, LAYERS["fc"])}),
        "layer 'fc': activations .*NaN|layer 'fc': .*not finite",
    ),
    "lengths": (
        dict(layers={"a": np.ones((N, 2)), "b": np.ones((9, 2))}),
        r"differ in their number of images: a \(12, 2\), b \(9, 2\)",
    ),
    "no layer": (
        dict(layers={"a": np.ones(N)}),
        r"holds no layer, an array .*; its arrays are: a \(12,\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_features_that_cannot_be_scored(study, tmp_path, case):
    options, message = ERRORS[case]
    path = write(tmp_path, "npz", **({"names": NAMES} | options))
    with pytest.raises(ValueError, match=message) as error:
        score_features(path, study)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_two_rows_of_one_stimulus(study):
    layers = {"fc": np.concatenate([LAYERS["fc"], LAYERS["fc"][:1]])}
    names = [*NAMES, "im_00"]
    with pytest.raises(
        ValueError, match=r"several rows for im_00\.png of .*: 0, 12, named im_00\.png, im_00"
    ):
        score_features(layers, study, names=names)


def test_arguments_that_are_refused(study, tmp_path):
    path = write(tmp_path, "npz")
    for options, message in (
        ({"rows": "position"}, "rows 'position' is not one of: names, order"),
        ({"layers": ["con"]}, "has no layer 'con'; it has conv, fc; did you mean conv?"),
        ({"measures": ["ridge"]}, "needs responses of units, and the region 'it'"),
        ({"regions": ["v1"]}, "no region 'v1'"),
    ):
        with pytest.raises(ValueError, match=message.replace("?", r"\?")):
            score_features(path, study, **options)
    with pytest.raises(ValueError, match="features is of type int"):
        score_features(3, study)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        score_features(tmp_path / "no.npz", study)
    fewer = {name: values[:9] for name, values in LAYERS.items()}
    with pytest.raises(
        ValueError, match="features has 9 rows, but the study 'mine' has 12 stimuli"
    ):
        score_features(fewer, study, rows="order")


def test_damaged_and_other_files(study, tmp_path):
    path = write(tmp_path, "npz")
    content = path.read_bytes()
    for name, data in (
        ("cut.npz", content[: len(content) // 2]),
        ("text.npz", b"features"),
        ("empty.npy", b""),
        ("cut.npy", b"\x93NUMPY\x01\x00"),
        ("cut.h5", b"\x89HDF\r\n\x1a\n" + bytes(100)),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name) as error:
            score_features(tmp_path / name, study)
        assert "\n" not in str(error.value)


def test_an_announced_size_is_compared_with_the_file(study, tmp_path):
    header = (
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (12, 1000000000)}"
    )
    content = header.ljust(127) + b"\n" + bytes(80)
    (tmp_path / "huge.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "huge.npz", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("fc.npy", content)
    for name in ("huge.npy", "huge.npz"):
        with pytest.raises(
            ValueError, match=rf"{name} cannot be read .* announces an array of shape"
        ):
            score_features(tmp_path / name, study)


def test_the_command_line(study, tmp_path, capsys):
    path = write(tmp_path, "h5")
    table = tmp_path / "scores.csv"
    command = ["score", str(path), "--data", str(study), "--bootstrap", "0", "--quiet"]
    assert main([*command, "--csv", str(table)]) == 0
    out = capsys.readouterr().out
    assert "conv" in out
    assert "V4" in out
    assert main([*command, "--json", "--regions", "v4", "--measures", "ridge,cka"]) == 0
    lines = json.loads(capsys.readouterr().out)["results"]
    assert {(r["layer"], r["measure"]) for r in lines} == {
        (layer, measure) for layer in LAYERS for measure in ("ridge", "cka")
    }
    with table.open() as file:
        rows = list(csv.DictReader(file))
    found = score_features(path, study, n_draws=0)
    assert [float(row["percent_nc"]) for row in rows] == pytest.approx(
        [r.percent_nc for r in found.results]
    )


def test_errors_of_the_command_line(study, tmp_path, capsys):
    path = str(write(tmp_path, "npz", names=None))
    command = ["score", path]
    options = ["--data", str(study), "--bootstrap", "0"]
    for arguments, message in (
        ([], "has no names of its 12 images"),
        (["--submit", str(tmp_path / "out")], "--submit is for networks, and"),
        (["--size", "32"], "--size is for networks, and"),
        (["net.onnx"], "net.onnx is not; score features and networks in separate calls"),
    ):
        assert main([*command, *arguments, *options]) == 1
        assert message in capsys.readouterr().err
    assert main([*command, *options, "--rows", "order", "--quiet"]) == 0
    assert main(["score", "net.onnx", "--rows", "order", "--data", str(study)]) == 1
    assert "--rows is for files of features" in capsys.readouterr().err


def test_pixels_and_neurons_of_v4(data_root, tmp_path):
    """Real responses with repeats: 50 neurons, 640 images (Cowley et al. 2023)."""
    folder = data_root / "responses" / "cowley2023_v4"
    if not folder.is_dir():
        pytest.skip(f"no responses of V4 at {folder}")
    with zipfile.ZipFile(folder / "images_210325.zip") as archive:
        archive.extractall(tmp_path / "stimuli")
    shutil.copy(folder / "responses_210325.npy", tmp_path)
    (tmp_path / "study.toml").write_text(
        'name = "v4"\norder = "natural"\nmeasures = ["rsa", "ridge"]\n[targets.v4]\nceiling = 1.0\n'
        'responses = "responses_210325.npy"\naxes = ["units", "conditions", "repeats"]\n'
    )
    (study,) = fastrdm.open_studies(tmp_path)
    assert len(study.stimuli) == 640
    assert np.median(study.responses["v4"].reliability) == pytest.approx(0.764, abs=0.01)
    pixels = [
        np.asarray(Image.open(path).convert("L").resize((16, 16)), np.float32)
        for path in study.stimuli
    ]
    rows = np.random.default_rng(0).permutation(640)
    np.savez(
        tmp_path / "pixels.npz",
        pixels=np.stack(pixels)[rows],
        names=np.array(study.names)[rows],
    )
    scores = score_features(tmp_path / "pixels.npz", study, n_draws=0)
    found = {r.measure: r for r in scores.results}
    target = fastrdm.Target.from_responses(
        np.load(folder / "responses_210325.npy").transpose(2, 1, 0)[None], ceiling=1.0
    )
    rdm = fastrdm.calc_rdm(np.stack(pixels))
    assert found["rsa"].mean_rho == pytest.approx(target.score(rdm).mean_rho[0], abs=1e-6)
    # Pixels predict V4, but less well than the middle layers of a network (0.5).
    assert 0.1 < found["ridge"].value < 0.4
