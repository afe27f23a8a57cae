"""Every block of code of the documentation runs, in the order of its page."""

import contextlib
import csv
import dataclasses
import sys
import warnings
from pathlib import Path

import numpy as np
import page_files
import pytest
from conftest import ROOT
from page_blocks import pages, read_blocks
from page_runners import run_block
from page_setups import SETUPS

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="not a checkout")

PAGES = pages()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in which a page's blocks run, and whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield tmp_path
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", [page for page in PAGES if read_blocks(ROOT / page)])
def test_page(page, monkeypatch):
    page_files.seed()
    with contextlib.contextmanager(SETUPS.get(page, _nothing))(monkeypatch) as names:
        names["__name__"] = "page"
        for block in read_blocks(ROOT / page):
            run_block(block, names)


def _nothing(patch):
    yield {}


@pytest.mark.usefixtures("folder")
def test_the_paper_on_the_real_data_has_the_scores_of_the_results(challenge, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("FASTRDM_DATA", str(challenge.parent))
    monkeypatch.chdir(ROOT / "models" / "study")
    names = {"__name__": "page"}
    for block in read_blocks(ROOT / "docs" / "notebooks" / "paper.md"):
        run_block(block, names)
    with (ROOT / "models" / "RESULTS-table.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["best"] == "1" and row["epoch"]]
    scores: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        checkpoint = f"{row['network']}-seed{row['seed']}/{row['epoch']}"
        layer = f"{row['layer']}@{row['size']}"
        scores.setdefault((checkpoint, layer), []).append(float(row["score"]))
    assert {len(each) for each in scores.values()} == {2}
    assert {checkpoint for checkpoint, _ in scores} == names["best"].keys()
    for (checkpoint, layer), of_studies in scores.items():
        assert names["best"][checkpoint] == layer
        assert names["mean"][checkpoint] == pytest.approx(np.mean(of_studies), abs=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_transcripts_of_fitted_models_on_the_real_data(challenge):
    import torch

    import fastrdm
    from models.networks import efficientnet_lite0, efficientnet_lite0_weights

    network = efficientnet_lite0()
    network.load_state_dict(torch.load(efficientnet_lite0_weights(), weights_only=True))
    study = fastrdm.open_studies(challenge.parent, sets=["92"])[0]
    rdms = fastrdm.TorchModel(network.eval()).rdms(study.stimuli)
    names = {
        "fastrdm": fastrdm,
        "rdms": rdms,
        "it": study.targets["it"],
        "early": {layer: rdms[layer] for layer in ("stem", "block3")},
        "late": {layer: rdms[layer] for layer in ("block12", "block15")},
    }
    blocks = [b for b in read_blocks(ROOT / "docs" / "fitting.md") if b.language == "pycon"]
    assert len(blocks) == 2
    for block in blocks:
        run_block(dataclasses.replace(block, not_run=""), names)


@pytest.mark.parametrize("page", [page for page in PAGES if "/notebooks/" in page])
def test_notebooks_are_notebooks(page):
    jupytext = pytest.importorskip("jupytext")
    cells = jupytext.read(ROOT / page).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert code == [block.text.strip() for block in read_blocks(ROOT / page)]


def test_setups_belong_to_pages():
    assert set(SETUPS) <= set(PAGES)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("```python\nx = missing\n```", "page.md:2: NameError: name 'missing'"),
        ("- a list\n\n  ```python\n  x = missing\n  ```", "page.md:4: NameError"),
        ("````{note}\nSee\n\n```python\nx = missing\n```\n````", "page.md:5: NameError"),
        ("    x = missing\n", "page.md:1: the tests cannot run a block of the language 'indented'"),
        ("```\nsomething\n```", "page.md:2: the tests cannot run a block of the language ''"),
        ("```rust\nx\n```", "page.md:2: the tests cannot run a block of the language 'rust'"),
        ("```sh\nfastrdm table missing.db\n```", "fastrdm table missing.db ended with status 1"),
        ("```sh\nfastrdm table --missing\n```", "fastrdm table --missing ended with status 2"),
        ("```sh\nmake missing\n```", "the Makefile has no missing"),
        ("```sh\npip install '.[missing]'\n```", "there is no extra missing"),
        ("```sh\npython -m models.train --missing\n```", "models.train --missing is refused"),
        ("```sh\ncurl missing\n```", "the tests do not know the program curl"),
        ("```toml\nx = 1\n```", "neither a manifest"),
        ("```json\n{]\n```", "JSONDecodeError"),
        ("```pycon\n>>> 1 + 1\n3\n```", "Expected:\n    3\nGot:\n    2"),
        ("```python\nprint(2)\n```\n\n```output\n3\n```", "the block before it printed:\n2"),
        (
            "<!-- not run: slow -->\n```sh\nfastrdm table --missing\n```",
            "fastrdm table --missing ended with status 2",
        ),
        (
            "<!-- not run: slow -->\n```python\nfastrdm.missing()\n```",
            "module 'fastrdm' has no attribute 'missing'",
        ),
        (
            "<!-- not run: slow -->\n```python\nfastrdm.gram(x, missing=1)\n```",
            "fastrdm.gram(x, missing=1) has no missing",
        ),
    ],
)
def test_defects_of_a_page_are_found(folder, monkeypatch, text, error):
    monkeypatch.setattr("page_blocks.ROOT", folder)
    page = folder / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError) as caught:
        names = {}
        for block in read_blocks(page):
            run_block(block, names)
    assert error in str(caught.value)


@pytest.mark.usefixtures("folder")
def test_shell_syntax():
    from page_commands import commands

    text = "A=1 fastrdm table x | head > 'a b' && exec fastrdm --version # it\nsource <(fastrdm doctor)\n"
    assert list(commands(text)) == [
        (["A=1", "fastrdm", "table", "x"], None),
        (["head"], "a b"),
        (["exec", "fastrdm", "--version"], None),
        (["fastrdm", "doctor"], None),
        (["source", "OUTPUT"], None),
    ]
