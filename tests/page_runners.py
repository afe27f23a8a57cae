"""What a block of each language has to pass: Python and commands run, settings are read by what reads them."""

import ast
import contextlib
import doctest
import importlib
import inspect
import io
import json
import re
import tomllib
from pathlib import Path

import pytest
from page_commands import commands, run_commands

#: Among the names of a page: whether what its blocks print is compared with the page (True without it).
COMPARED = "__compared__"
#: Languages of blocks that show a picture of files or what something prints: there is nothing to run.
SHOWN = ("text",)
_PRINTED = "__printed__"
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run_block(block, names):
    """Run a block with the names of its page; a block that cannot be checked fails."""
    runner = _RUNNERS.get(block.language)
    assert runner or block.language in SHOWN, (
        f"{block.place}: the tests cannot run a block of the language {block.language!r}; it runs "
        f"{', '.join([*_RUNNERS, *SHOWN])}"
    )
    if runner:
        try:
            runner(block, names)
        except (Exception, SystemExit) as error:
            if isinstance(error, pytest.skip.Exception):
                raise
            raise AssertionError(f"{block.place}: {type(error).__name__}: {error}") from error


def _run_python(block, names):
    tree = ast.parse(block.text, block.place)
    named = re.match(r"# (\w+\.py)\b", block.text)
    if named:
        Path(named.group(1)).write_text(block.text, encoding="utf-8")
    if block.not_run:
        check_names(tree)
    else:
        # Empty lines before it, so that a traceback names the page's line.
        text = "\n" * (block.line - 1) + block.text
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(text, str(block.page), "exec"), names)
        names[_PRINTED] = printed.getvalue()


def _compare_output(block, names):
    """Compare what the Python block before printed."""
    if names.get(COMPARED, True) and not block.not_run:
        assert _equal(block.text, names[_PRINTED]), (
            f"the block before it printed:\n{names[_PRINTED]}"
        )


def _equal(expected, printed):
    """Whether a text is the expected one, up to the width of spaces; `...` stands for anything."""
    return doctest.OutputChecker().check_output(expected, printed, _FLAGS)


def check_names(tree):
    """Check that every name of fastrdm in a program exists, and that calls pass arguments that exist."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "fastrdm":
            module = importlib.import_module(node.module)
            for each in node.names:
                assert hasattr(module, each.name), f"{node.module} has no {each.name}"
        elif isinstance(node, ast.Attribute):
            _resolve(node)
        elif isinstance(node, ast.Call) and (called := _resolve(node.func)) is not None:
            parameters = inspect.signature(called).parameters.values()
            known = {each.name for each in parameters}
            if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
                for keyword in node.keywords:
                    assert keyword.arg in known, f"{ast.unparse(node)} has no {keyword.arg}"


def _resolve(node):
    """What an expression such as `fastrdm.live.Scorer` names, or None if it does not begin with fastrdm."""
    if isinstance(node, ast.Name):
        return importlib.import_module("fastrdm") if node.id == "fastrdm" else None
    if isinstance(node, ast.Attribute) and (parent := _resolve(node.value)) is not None:
        return getattr(parent, node.attr)
    return None


def _run_commands(block, names):
    print(run_commands(block.text, run=not block.not_run), end="")


def _run_transcript(block, names):
    """Run the prompts `>>> ` of a block, and compare what they print."""
    test = doctest.DocTestParser().get_doctest(block.text, names, block.place, str(block.page), 0)
    assert test.examples, "no prompt >>>"
    if block.not_run:
        for example in test.examples:
            check_names(ast.parse(example.source))
        return
    report = io.StringIO()
    if not names.get(COMPARED, True):
        for example in test.examples:
            exec(compile(example.source, block.place, "single"), names)
        return
    result = doctest.DocTestRunner(optionflags=_FLAGS).run(
        test, out=report.write, clear_globs=False
    )
    names.update(test.globs)
    assert not result.failed, report.getvalue()


def _run_console(block, names):
    """Run the commands after prompts `$ `, and compare what they print, up to the width of spaces."""
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        line, _, expected = part.partition("\n")
        printed = run_commands(line, run=not block.not_run)
        if not block.not_run:
            assert _equal(expected, printed), f"{line} printed:\n{printed}"


def _read_toml(block, names):
    settings = tomllib.loads(block.text)
    if "network" in settings:
        from fastrdm.scoring.manifest import read_manifest

        path = Path("sweep.toml")
        path.write_text(block.text, encoding="utf-8")
        assert len(read_manifest(path)) == len(settings["network"])
    elif "targets" in settings:
        from fastrdm.studies import open_studies

        folder = Path("my-study")
        assert folder.is_dir(), "the page's setup has no folder my-study for a study.toml"
        (folder / "study.toml").write_text(block.text, encoding="utf-8")
        (study,) = open_studies(folder)
        assert sorted(study.regions) == sorted(settings["targets"])
    else:
        raise AssertionError(
            "neither a manifest, with [[network]], nor a study.toml, with [targets.NAME]"
        )


def _read_json(block, names):
    json.loads(block.text)


def _read_yaml(block, names):
    """Read a manifest of Kubernetes, and parse the command that it starts."""
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load(block.text)
    for words, _ in commands(content["spec"]["entrypoint"]):
        assert words[0] == "fastrdm", words
    run_commands(content["spec"]["entrypoint"], run=False)


_RUNNERS = {
    "python": _run_python,
    "output": _compare_output,
    "pycon": _run_transcript,
    "sh": _run_commands,
    "console": _run_console,
    "toml": _read_toml,
    "json": _read_json,
    "yaml": _read_yaml,
}
