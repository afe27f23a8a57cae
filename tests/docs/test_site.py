"""The documentation site: every public name and every page is in it. `make docs` checks its references."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PACKAGES = [
    "fastrdm",
    "fastrdm.plot",
    "fastrdm.live",
    "fastrdm.interop",
    "fastrdm.interop.brainscore",
    "fastrdm.interop.mne_rsa",
    "fastrdm.interop.rsatoolbox",
    "fastrdm.report",
]


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


def test_every_name_in_the_api_is_public():
    private = []
    for name in sorted(documented()):
        package, _, attribute = name.rpartition(".")
        if attribute not in importlib.import_module(package).__all__:
            private.append(name)
    assert private == []


def test_every_figure_is_in_the_gallery():
    scripts = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("gallery/*/*.py"))
    plot = importlib.import_module("fastrdm.plot")
    functions = {name: getattr(plot, name) for name in plot.__all__ if name[0].islower()}
    figures = [name for name, f in functions.items() if "ax" in inspect.signature(f).parameters]
    assert [name for name in figures if f"fastrdm.plot.{name}(" not in scripts] == []


def test_every_page_is_in_the_navigation():
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    pages = {page.removesuffix(".md") for page in pages if not page.startswith(("generated/", "_"))}
    named = set()
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL):
            named.update(re.findall(r"^(?:[^:\n]*<)?([\w/-]+)>?$", tree, re.MULTILINE))
    assert sorted(pages - named - {"index"}) == []
