"""Labels of a store, and the columns that tell its settings apart."""

import json
import math
from dataclasses import replace

import pytest
from store_writer import PIPELINE, Writer, as_version_1, rows, scored

from fastrdm.cli import main
from fastrdm.images import Preprocessing
from fastrdm.scoring import SETTINGS, Store
from fastrdm.scoring.path_labels import RESERVED
from fastrdm.scoring.records import Pipeline
from fastrdm.scoring.store_columns import NAMES, preprocessing_text, table_columns


@pytest.fixture
def writer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = Writer(tmp_path / "scores.db")
    yield writer
    writer.store.close()


def column(name, path="scores.db"):
    """Values of a column, one for each path."""
    with Store(path) as store:
        place = list(store.columns()).index(name)
        return list({row[0]: row[place] for row in store.rows()}.values())


def add(writer, **labels):
    for i, values in enumerate(zip(*labels.values(), strict=True)):
        found = {k: v for k, v in zip(labels, values, strict=True) if v is not None}
        writer.record(scored(i, path=f"run{i}.pth", labels=found))


def test_labels_are_numbers_where_they_all_are(writer):
    add(
        writer,
        epoch=["02", "10", "-1"],
        rate=["0.1", "1e-3", "5"],
        seed=["1", None, "3"],
        loss=[None, ".5", None],
        name=["1", "x", "3"],
        code=["1_0", "2", "3"],
        large=["1" * 19, "2", "3"],
    )
    with Store("scores.db") as store:
        kinds = {name: store.columns()[name] for name in store.labels()}
    assert kinds == {
        "epoch": int, "rate": float, "seed": int, "loss": float, "name": str, "code": str, "large": float,
    }  # fmt: skip
    assert column("epoch") == [2, 10, -1] and column("rate") == [0.1, 0.001, 5]
    assert column("seed") == [1, None, 3] and column("name") == ["1", "x", "3"]
    assert [math.isnan(value) for value in column("loss")] == [True, False, True]


def test_labels_that_are_numbers_are_numbers_in_frames_and_parquet(writer, tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    add(writer, epoch=["2", "10"], seed=["1", None], rate=["0.5", "1"], name=["a", "b"])
    with Store("scores.db") as store:
        frame = store.frame()
        store.write_parquet(tmp_path / "t.parquet")
    types = {name: str(frame[name].dtype) for name in ("epoch", "seed", "rate", "name")}
    assert types == {"epoch": "int64", "seed": "Int64", "rate": "float64", "name": "object"}
    read = pandas.read_parquet(tmp_path / "t.parquet")
    assert read["epoch"].tolist() == [2] * 4 + [10] * 4 and read["seed"].isna().sum() == 4
    assert read["rate"].dtype == "float64"


def test_labels_are_added_to_a_finished_store_without_scoring(writer, capsys):
    add(writer, seed=["1", "2"])
    writer.record(scored(7, path="last.pth", labels={}))
    before = rows("scores.db")
    assert main(["label", "scores.db", "--labels", r"run(?P<number>\d)"]) == 0
    assert capsys.readouterr().out == "2 of 3 paths have labels; not last.pth\n"
    assert column("number") == [None, 0, 1] and column("seed") == [None, 1, 2]
    assert [row[4:] for row in rows("scores.db")] == [row[3:] for row in before]
    # A label of the same name is replaced.
    assert main(["label", "scores.db", "--labels", r"(?P<number>.)\.pth"]) == 0
    assert column("number") == ["t", "0", "1"]
    assert main(["label", "scores.db", "--remove", "number", "--remove", "seed"]) == 0
    assert rows("scores.db") == [row[:2] + row[3:] for row in before]
    with Store("scores.db", write=True) as store:
        store.set_labels({"run1.pth": {"epoch": 3, "rate": 0.5}})
    assert column("epoch") == [None, None, 3] and column("rate")[2] == 0.5
    with Store("scores.db", write=True) as store:
        store.set_labels({"run1.pth": {"epoch": None, "rate": 1}})
        assert store.labels() == ["rate"]


MISTAKES = {
    "no match": (["--labels", r"step(?P<step>\d+)"], "match none of the 2 paths of scores.db: run0"),
    "column": (["--labels", r"run(?P<layer>\d)"], "cannot be named 'layer', which is a column"),
    "unnamed": (["--labels", r"run(\d)"], "has no named group"),
    "nothing": ([], "--labels REGEX"),
    "unknown": (["--remove", "sed"], "has no label sed; did you mean seed?"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_labels_are_one_sentence_and_change_nothing(name, writer, capsys):
    add(writer, seed=["1", "2"])
    arguments, match = MISTAKES[name]
    before = rows("scores.db")
    assert main(["label", "scores.db", *arguments]) == 1
    err = capsys.readouterr().err
    assert match in err and err.count("\n") == 1 and rows("scores.db") == before


def test_labels_of_unknown_paths_or_with_the_name_of_a_column_are_refused(writer, tmp_path):
    add(writer, seed=["1", "2"])
    with pytest.raises(ValueError, match=r"no checkpoint run2.pth; did you mean run\d.pth\?"):
        writer.store.set_labels({"run2.pth": {"seed": 1}})
    with pytest.raises(ValueError, match="cannot be named 'settings'"):
        writer.store.set_labels({"run1.pth": {"settings": 1}})
    assert main(["label", "none.db", "--labels", "(?P<a>.)"]) == 1
    assert not (tmp_path / "none.db").exists()


def test_every_column_is_reserved():
    assert NAMES <= RESERVED
    flags = ("subjects", "history", "sign_flips", "score", "times")
    full = table_columns([], **dict.fromkeys(flags, True))
    assert set(full) == NAMES


def test_a_label_with_the_name_of_a_column_in_an_older_store_does_not_shift_the_table(
    writer, tmp_path, capsys
):
    """Older versions accepted them."""
    labels = {"layer": "5", "p": "0.5", "label_p": "x", "mean_rho": "a"}
    writer.record(scored(1, labels=labels))
    as_version_1("scores.db", "old.db")
    for path in ("scores.db", "old.db"):
        with Store(path) as store:
            columns = list(store.columns())
            (conv, *_) = (dict(zip(columns, row, strict=True)) for row in store.rows())
        assert columns[:7] == [
            "checkpoint", "arch", "label_p", "label_layer", "label_mean_rho", "label_label_p", "study",
        ]  # fmt: skip
        assert conv["layer"] == "conv" and conv["label_layer"] == 5 and conv["label_p"] == "x"
        assert conv["label_label_p"] == 0.5 and conv["label_mean_rho"] == "a"
    assert main(["table", "old.db", "--where", "label_layer = 5", "--where", "layer=conv"]) == 0
    assert "label_label_p" in capsys.readouterr().out


def test_columns_tell_settings_apart(writer, capsys):
    ema = {"key": "state_dict_ema", "prefix": "module.", "ema": "yes", "missing": "fc.weight"}
    clip = Preprocessing((336, 224), "pil-bicubic", mean=(0.5, 0.5, 0.5))
    settings = [
        (PIPELINE, {}),
        (replace(PIPELINE, precision="fp16", taps="conv,IT=fc@cls"), {"key": "net"}),
        (replace(PIPELINE, preprocessing=clip.to_json()), ema),
    ]
    environments = [writer.store.add_environment({"provider": p}) for p in ("CPU", "CPU", "CUDA")]
    for (pipeline, taken), environment in zip(settings, environments, strict=True):
        writer.pipeline, writer.environment = writer.store.add_pipeline(pipeline), environment
        writer.record(replace(scored(1, path="a.pth"), taken=taken))
    with Store("scores.db") as store:
        columns = list(store.columns())
        found = {}
        for row in store.rows():
            values = dict(zip(columns, row, strict=True))
            found[values["settings"]] = {name: values[name] for name in SETTINGS}
    assert found.keys() == {pipeline.key[:8] for pipeline, _ in settings}
    plain, half, wide = (found[pipeline.key[:8]] for pipeline, _ in settings)
    assert plain["taps"] == "conv,fc" and half["taps"] == "conv,IT=fc@cls"
    assert (plain["precision"], half["precision"]) == ("fp32", "fp16")
    assert (plain["provider"], wide["provider"]) == ("CPU", "CUDA")
    assert wide["preprocessing"] == "336×224 pil-bicubic mean 0.5,0.5,0.5"
    assert half["key"] == "net" and half["prefix"] == half["ema"] == ""
    assert {name: wide[name] for name in ema} == ema
    assert plain["kernels"] == PIPELINE.kernels
    # The text shows those that differ.
    assert main(["table", "scores.db"]) == 0
    header = capsys.readouterr().out.splitlines()[0].split()
    assert header[3:12] == [
        "taps", "precision", "provider", "preprocessing", "key", "prefix", "ema", "missing", "settings",
    ]  # fmt: skip
    assert main(["table", "scores.db", "--where", "precision = fp16"]) == 0
    assert capsys.readouterr().out.split()[:4] == ["checkpoint", "arch", "epoch", "study"]


def test_what_was_taken_is_kept_with_the_content_and_its_copies(writer):
    made = replace(scored(1, path="a.pth"), taken={"key": "ema"})
    writer.record(made)
    writer.record(replace(made, job=replace(made.job, path="b.pth"), taken={}))
    assert set(column("key")) == {"ema"}


@pytest.mark.parametrize(
    ("preprocessing", "text"),
    [
        (Preprocessing().to_json(), "224×224 pil-bilinear"),
        (Preprocessing(std=(0.25, 0.25, 0.5), channel_order="BGR").to_json(),
         "224×224 pil-bilinear std 0.25,0.25,0.5 channel_order BGR"),
        (json.dumps({"size": [8, 9], "resize": "a", "crop": [7, 7]}), "8×9 a crop 7,7"),
        ("the file's", "the file's"),
        ("", ""),
    ],
)  # fmt: skip
def test_preprocessing_as_text(preprocessing, text):
    assert preprocessing_text(preprocessing) == text


def test_the_taps_of_older_pipelines_are_added(writer):
    pipeline = Pipeline("net", "g", "{}", "fp32", "k")
    number = writer.store.add_pipeline(pipeline)
    assert writer.store.add_pipeline(replace(pipeline, taps="a,b")) == number
    writer.store.add_pipeline(replace(pipeline, taps="c"))
    (found,) = writer.store.query("SELECT taps FROM methods WHERE id = ?", number)
    assert found == ("a,b",)
