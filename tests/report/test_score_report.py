"""The report of a store: its data, against plain computations, and the page that holds them."""

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import store_writer
from scipy.stats import rankdata
from small_study import write_study

from fastrdm.cli import main
from fastrdm.report import write_report
from fastrdm.report.score_page import json_for_html, page_of
from fastrdm.report.score_rdms import byte_ranks
from fastrdm.report.score_report import report_data
from fastrdm.report.study_rdms import mean_rdm
from fastrdm.report.training_runs import progress_label, runs_of
from fastrdm.scoring import Store, read_results, scorers_of
from fastrdm.scoring.journal import target_records
from fastrdm.scoring.region_scorers import LayerSet
from fastrdm.studies import open_studies

pytest.importorskip("altair", reason="reports need Altair")
pytest.importorskip("vl_convert", reason="reports need vl-convert")

NASTY = "</script><img src=x onerror=alert(1)>\u2028\x1b[1m$x_y\udcff.pth"


class Page(HTMLParser):
    """The texts of a page's scripts, and its tags."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.tags, self.policy, self.inside = [], [], "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append((attrs.get("type"), ""))
        if attrs.get("http-equiv") == "Content-Security-Policy":
            self.policy = attrs["content"]

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "script"

    def handle_data(self, data):
        if self.inside:
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.db"


def fill(store, n=3, **options):
    writer = store_writer.Writer(store)
    for i in range(n):
        writer.record(store_writer.scored(i, **options))
    return writer


def data_of(path, **options):
    with Store(path) as store:
        return report_data(store, **options)


def numbers(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def test_the_columns_have_all_results(path):
    fill(path).store.close()
    data, results = data_of(path), read_results(path)
    assert data["checkpoints"]["name"] == ["epoch000.pth", "epoch001.pth", "epoch002.pth"]
    # All checkpoints have the same layers and regions.
    assert data["checkpoints"]["shape"] == [0, 0, 0]
    (shape,) = data["shapes"]
    places = [data["places"][i]["name"] for i in numbers(shape["place"], "<u2")]
    layers = [data["layers"][i] for i in numbers(shape["layer"], "<u2")]
    assert [(r.region.upper(), r.layer) for r in results[:4]] == list(
        zip(places, layers, strict=True)
    )
    for name, column in (("percent", "percent_nc"), ("low", "low"), ("high", "high")):
        expected = [getattr(r, column) for r in results]
        np.testing.assert_allclose(numbers(data[name], "<f4"), expected, rtol=1e-6)
    rho = numbers(data["subjects"], "<i2") / data["rho_scale"]
    np.testing.assert_allclose(rho, np.concatenate([r.rho for r in results]), atol=2e-5)
    np.testing.assert_allclose(
        numbers(data["rho"], "<i2") / data["rho_scale"], [r.mean_rho for r in results], atol=2e-5
    )


def test_the_first_checkpoint_shown_is_the_best_one(path):
    fill(path, 5).store.close()
    results = read_results(path)
    best = max(results, key=lambda r: r.percent_nc).checkpoint
    data = data_of(path)
    assert data["checkpoints"]["name"][data["first"]] == best


def test_the_best_rdms_are_kept_within_the_size_and_equal_ones_once(path):
    writer = fill(path, 4)
    same = store_writer.scored(2, path="same.pth")
    writer.record(dataclasses.replace(same, sha256="f" * 64))
    writer.store.close()
    everything = data_of(path)
    assert len(everything["rdms"]) == 8 and len(everything["checkpoint_rdms"]) == 5
    rdm = np.random.default_rng(2).random((2, 21)).astype("f4")[0]
    (_, layer, k), _ = everything["checkpoint_rdms"][
        everything["checkpoints"]["name"].index("epoch002.pth")
    ]
    assert everything["layers"][layer] == "conv"
    np.testing.assert_array_equal(
        numbers(everything["rdms"][k], "u1"), np.rint((rankdata(rdm) - 1) * 254 / 20)
    )
    some = data_of(path, rdms=60)
    assert list(some["checkpoint_rdms"]) == [some["first"]]
    assert "of 1 checkpoint of 5" in some["rdm_notes"]["layers"]


def test_ranks_of_ties_and_missing_pairs():
    assert byte_ranks(np.array([1.0, 1.0, 3.0, np.nan])).tolist() == [64, 64, 254, 255]
    assert byte_ranks(np.array([np.nan, 2.0])).tolist() == [255, 0]


def test_the_mean_rdm_is_of_the_subjects_that_have_a_pair():
    rdms = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    np.testing.assert_array_equal(mean_rdm(rdms), [2.0, 5.0, np.nan])


def test_a_page_is_one_file_whose_policy_allows_its_own_scripts_alone(path, tmp_path):
    fill(path).store.close()
    output = write_report(path, tmp_path / "report.html")
    text = output.read_text("utf-8")
    page = Page(text)
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for kind, script in page.scripts
        if kind is None
    ]
    assert len(hashes) == 2
    directives = dict(part.strip().split(" ", 1) for part in page.policy.split(";"))
    assert directives["default-src"] == "'none'" and directives["img-src"] == "data:"
    assert directives["script-src"].split() == hashes
    assert not [attrs for _, attrs in page.tags if "src" in attrs or attrs.get("rel")]


def test_names_of_checkpoints_layers_and_labels_stay_text(path, monkeypatch):
    monkeypatch.setattr(store_writer, "LAYERS", (NASTY.replace("\udcff", ""), "fc"))
    writer = fill(path, 1, path=NASTY, labels={"note": NASTY})
    writer.fail(NASTY + "2")
    writer.store.close()
    page = Page(page_of(data_of(path)))
    assert "img" not in {tag for tag, _ in page.tags}
    kind, data = page.scripts[0]
    assert not re.search("[<>\udcff\u2028\x1b]", data)
    assert kind == "application/json"
    shown = r"</script><img src=x onerror=alert(1)>\u2028\x1b[1m$x_y\xff.pth"
    report = json.loads(data)
    assert (
        report["checkpoints"]["name"] == [shown] and shown.replace(r"\xff", "") in report["layers"]
    )
    assert report["labels"] == [{"name": "note", "is_number": False, "values": [shown]}]
    assert report["failures"]["listed"][0][0] == f"{shown}2"


def test_json_for_html_has_no_character_of_markup():
    text = json_for_html(["</script>", "<!--", "a & b", "\u2028é"])
    assert not re.search("[<>&\u2028é]", text)
    assert json.loads(text) == ["</script>", "<!--", "a & b", "\u2028é"]


def test_several_targets_of_one_name_are_places_of_their_own(path):
    writer = fill(path, 1)
    other = store_writer.TargetRecord("92", "evc", "i" * 64, "t" * 64, "{}", 0.5, 4, False)
    writer.targets["92", "evc", "rsa"] = writer.store.add_target(other)
    writer.record(store_writer.scored(7))
    writer.store.close()
    places = data_of(path)["places"]
    assert len({place["name"] for place in places}) == len(places) == 3
    assert sorted(place["ceiling"] for place in places) == [0.25, 0.25, 0.5]


def test_integers_too_large_for_javascript_are_text(path):
    writer = store_writer.Writer(path)
    for i, job in enumerate((2**53 + 1, 7)):
        labels = {"job": str(job), "epoch": str(i)}
        writer.record(store_writer.scored(i, labels=labels))
    writer.store.close()
    epoch, job = data_of(path)["labels"]
    assert job == {"name": "job", "is_number": False, "values": ["9007199254740993", "7"]}
    assert epoch == {"name": "epoch", "is_number": True, "values": [0, 1]}


def test_a_store_with_failures_alone_has_a_report(path, tmp_path):
    writer = store_writer.Writer(path)
    writer.fail()
    writer.store.close()
    data = data_of(path)
    assert data["failures"] == {"count": 1, "listed": [["bad.pth", "it is bad"]]}
    assert data["first"] == -1 and not data["charts"]
    assert write_report(path, tmp_path / "r.html").exists()


def test_an_empty_store_is_refused(path, tmp_path):
    store_writer.Writer(path).store.close()
    with pytest.raises(ValueError, match="neither results nor failures"):
        write_report(path, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_arguments_that_cannot_be_are_refused_before_work(path, tmp_path):
    fill(path, 1).store.close()
    with pytest.raises(ValueError, match=r"path: .*r\.pdf must end in one of: \.html, \.htm"):
        write_report(path, tmp_path / "r.pdf")
    with pytest.raises(FileNotFoundError, match="no folder"):
        write_report(path, tmp_path / "none" / "r.html")
    with pytest.raises(ValueError, match="rdms 'much' is not a number of bytes"):
        write_report(path, tmp_path / "r.html", rdms="much")
    with pytest.raises(FileNotFoundError, match="data: .*nowhere is not a folder"):
        write_report(path, tmp_path / "r.html", data=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no checkpoint has the label 'era'; labels are epoch"):
        write_report(path, tmp_path / "r.html", progress="era")
    assert not list(tmp_path.glob("*.html"))


def test_the_command_writes_a_page(path, tmp_path, capsys, monkeypatch):
    fill(path).store.close()
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(path), "--data", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "wrote report.html\n"
    assert "no study in" in (tmp_path / "report.html").read_text("utf-8")
    assert main(["report", str(path), "-o", "r.txt"]) == 1
    assert "--output: r.txt must end in" in capsys.readouterr().err


def facts(*labels):
    return [(f"runs/{i}.pth", "net", "s", each) for i, each in enumerate(labels)]


def test_runs_differ_in_labels_that_repeat_at_the_same_epoch():
    checkpoints = facts(
        *(
            {"epoch": e, "seed": s, "loss": e + s / 10, "step": 10 * e}
            for s in (0, 1)
            for e in range(4)
        )
    )
    assert runs_of(checkpoints, "epoch") == [0, 0, 0, 0, 1, 1, 1, 1]


def test_runs_without_labels_differ_in_folders():
    checkpoints = [(f"{run}/{e}.pth", "net", "s", {"epoch": e}) for run in "ab" for e in range(3)]
    assert runs_of(checkpoints, "epoch") == [0, 0, 0, 1, 1, 1]
    # A folder for each checkpoint of one run does not tell runs apart.
    checkpoints = [(f"checkpoint-{e}/m.pth", "net", "s", {"epoch": e}) for e in range(3)]
    assert runs_of(checkpoints, "epoch") == [0, 0, 0]


def test_the_progress_label():
    labels = [{"Step": 1, "epoch": 2, "name": "a"}]
    assert progress_label(labels) == "epoch"
    assert progress_label([{"Step": 1}]) == "Step"
    assert progress_label([{"epoch": "one"}]) is None
    with pytest.raises(ValueError, match="'name' has values that are not numbers"):
        progress_label(labels, "name")


@pytest.fixture
def of_study(path, tmp_path):
    """A store whose targets are those of a study on disk, and the study."""
    write_study(tmp_path / "study", size=(20, 20))
    (study,) = open_studies(tmp_path / "study")
    scorers = scorers_of([study])
    n_pairs = next(iter(study.targets.values())).n_pairs
    rdms = np.random.default_rng(0).random((2, n_pairs))
    scores = {each.key: each.score(LayerSet(("conv", "fc"), rdms)) for each in scorers}
    made = store_writer.scored(0)
    made = dataclasses.replace(made, scores=scores, rdms={study.name: rdms.astype("f4")})
    with Store(path, write=True) as store:
        targets = store.add_targets(target_records([study], scorers))
        environment = store.add_environment({"kernels": "cpp"})
        run = store.begin_run({})
        store.record(made, store.add_pipeline(store_writer.PIPELINE), targets, run, environment)
    return study


def test_brain_rdms_and_noise_ceilings_are_of_the_study_of_the_store(path, of_study, tmp_path):
    data = data_of(path, data=tmp_path / "study")
    regions = list(of_study.targets)
    assert [brain["region"] for brain in data["brain_rdms"]] == regions
    for region, brain in zip(regions, data["brain_rdms"], strict=True):
        target = of_study.targets[region]
        mean = target.subject_rdms.mean(axis=(0, 1))
        ranks = np.rint((rankdata(mean) - 1) * 254 / (len(mean) - 1))
        assert np.abs(numbers(data["rdms"][brain["rdm"]], "u1") - ranks).max() <= 1
        place = next(place for place in data["places"] if place["region"] == region)
        ceiling = target.noise_ceiling
        assert (place["lower"], place["upper"]) == (ceiling.lower, ceiling.upper)


def test_a_study_that_has_changed_since_is_not_shown(path, of_study, tmp_path):
    rdms = np.load(tmp_path / "study" / "it.npy")
    np.save(
        tmp_path / "study" / "it.npy", rdms * [[1], [2], [1], [1], [1], [1]] * [1, 2, 1, 1, 1, 1]
    )
    data = data_of(path, data=tmp_path / "study")
    assert not data["brain_rdms"] and all(place["lower"] is None for place in data["places"])
    assert "differ from those of the store" in data["rdm_notes"]["brain"]
    assert not data_of(path)["brain_rdms"]


def test_settings_name_the_graph_that_all_checkpoints_share(path):
    writer = store_writer.Writer(path)
    writer.record(store_writer.scored(0))
    files = dataclasses.replace(store_writer.PIPELINE, arch="", graph="the file's, null")
    writer.store.add_pipeline(files)
    writer.store.close()
    settings = [text for label, text in data_of(path)["facts"] if label.startswith("settings")]
    shared, of_files = sorted(settings)
    assert of_files.startswith("networks of the files; ")
    assert "graph" not in of_files
    assert f"; graph {'g' * 12}; " in shared
