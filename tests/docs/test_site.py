"""The documentation site: every public name and every page is in it. `make docs` checks its references."""

import importlib
import inspect
import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PACKAGES = ["fastrdm", "fastrdm.plot", "fastrdm.live", "fastrdm.interop", "fastrdm.report"]


def documented():
    """The names in the tables of docs/api.md, with their packages."""
    package, names = "", set()
    for line in (DOCS / "api.md").read_text(encoding="utf-8").splitlines():
        if line.startswith(".. currentmodule:: "):
            package = line.split()[-1]
        elif re.fullmatch(r"   \w+", line):
            names.add(f"{package}.{line.strip()}")
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_in_the_api(package):
    names = documented()
    missing = [
        name
        for name in importlib.import_module(package).__all__
        if not {f"{package}.{name}", f"fastrdm.{name}"} & names
    ]
    assert missing == []


@pytest.mark.parametrize("name", sorted(documented()))
def test_every_name_in_the_api_can_be_imported(name):
    package, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(package), attribute)


def test_every_figure_is_in_the_gallery():
    scripts = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("gallery/*/*.py"))
    plot = importlib.import_module("fastrdm.plot")
    functions = {name: getattr(plot, name) for name in plot.__all__ if name[0].islower()}
    figures = [name for name, f in functions.items() if "ax" in inspect.signature(f).parameters]
    assert [name for name in figures if f"fastrdm.plot.{name}(" not in scripts] == []


@pytest.mark.parametrize("script", sorted(DOCS.glob("gallery/*/*.py")), ids=lambda path: path.stem)
def test_scripts_of_the_gallery_run(script):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    runpy.run_path(str(script))
    assert pyplot.get_fignums()
    pyplot.close("all")


def test_every_page_is_in_the_navigation():
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    pages = {page.removesuffix(".md") for page in pages if not page.startswith(("generated/", "_"))}
    named = set()
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL):
            named.update(re.findall(r"^(?:[^:\n]*<)?([\w/-]+)>?$", tree, re.MULTILINE))
    assert sorted(pages - named - {"index"}) == []
