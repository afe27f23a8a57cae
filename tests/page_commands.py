"""Shell blocks of the documentation: commands of fastrdm are run, and what others name is checked."""

import argparse
import contextlib
import glob
import importlib
import io
import os
import re
import shlex
import sys
import tomllib
from pathlib import Path

from conftest import ROOT

from fastrdm.cli import main
from fastrdm.cli.commands import make_parsers

#: Programs that the tests neither run nor check, and why.
UNCHECKED = {
    "cmake": "tests/compiled/test_library.py runs the same commands",
    "git": "needs the repository's host",
    "cd": "follows a clone",
    "pre-commit": "changes the repository",
    "ray": "starts a cluster",
    ".": "enters a virtual environment",
    "source": "enters a virtual environment, or reads the output of a command",
    "scontrol": "needs SLURM",
    "sbatch": "needs SLURM",
    "sleep": "waits for a cluster",
    "kubectl": "needs a cluster",
    "cp": "copies a result from one computer to another",
}
#: Modules that are run by `python -m`, and the functions that make their parsers. They take minutes to hours.
PARSERS = {
    "models.train": "models.training.train:_parser",
    "models.study.replicate": "models.study.replicate:_parser",
    "models.study.miniature": "models.study.miniature:_parser",
    "models.study.results": "models.study.results:_parser",
}
_OPERATORS = "();<>|&"
_HEREDOC = re.compile(r"^cat > (\S+) <<\s*'?(\w+)'?\n(.*?)^\2$", re.M | re.S)


def run_commands(text, run=True):
    """Run the commands of a block, or only parse them; return what `fastrdm` printed."""
    printed = []
    for words, target in commands(_write_files(text)):
        output = _command(words, run)
        if target is not None and run:
            Path(target).expanduser().write_text(output, encoding="utf-8")
        printed.append(output)
    return "".join(printed)


def _write_files(text):
    """Write the files of `cat > FILE <<EOF`, and return the rest of a block."""

    def write(found):
        Path(found.group(1)).write_text(found.group(3), encoding="utf-8")
        return ""

    return _HEREDOC.sub(write, text)


def commands(text):
    """The simple commands of a block, and the file to which each one's output goes, or None."""
    for line in re.sub(r"\$\(\(.*?\)\)", "0", text.replace("\\\n", " ")).splitlines():
        for inner in re.findall(r"[$<]\((.*?)\)", line):
            yield shlex.split(inner), None
        lexer = shlex.shlex(re.sub(r"[$<]\(.*?\)", "OUTPUT", line), True, _OPERATORS)
        lexer.whitespace_split = True
        words, target, to_file = [], None, False
        for word in [*lexer, ";"]:
            if to_file:
                target, to_file = word, False
            elif word in (">", ">>"):
                to_file = True
            elif set(word) <= set(_OPERATORS):
                if words:
                    yield words, target
                words, target = [], None
            else:
                words.append(word)


def _command(words, run):
    while words and (words[0] in ("exec", "export", "eval") or re.match(r"\w+=", words[0])):
        words = words[1:]
    if not words or words == ["OUTPUT"]:
        return ""
    program = Path(words[0]).name or words[0]
    if program == "srun":
        return _command(_after_options(words[1:]), run)
    if program == "fastrdm":
        return _fastrdm(_expand(words[1:]), run)
    if program == "make":
        return _check_make(words[1:])
    if program == "pip":
        return _check_pip(words[1:])
    if program in ("python", "python3"):
        return _check_python(_expand(words[1:]), run)
    assert program in UNCHECKED, (
        f"{shlex.join(words)}: the tests do not know the program {program}; add a check of it, or a reason in UNCHECKED"
    )
    return ""


def _expand(words):
    """The words with variables and file patterns expanded, as the shell does."""
    expanded = []
    for word in words:
        word = os.path.expandvars(word)
        word = str(Path(word).expanduser()) if word.startswith("~") else word
        expanded += sorted(glob.glob(word)) or [word]  # noqa: PTH207
    return expanded


def _after_options(words):
    """The command that a program such as srun starts."""
    start = next(
        i for i, word in enumerate(words) if Path(word).name in ("ray", "fastrdm", "python")
    )
    return words[start:]


def _fastrdm(words, run):
    line = shlex.join(["fastrdm", *words])
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            status = main(words) if run else make_parsers()[0].parse_args(words) and 0
        except SystemExit as error:  # --help, or wrong usage
            status = error.code
    assert not status, f"{line} ended with status {status}:\n{output.getvalue()}"
    return output.getvalue()


def _check_make(words):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, is_variable, _ = word.partition("=")
        found = re.search(rf"\$\({name}\)" if is_variable else rf"^{name}:", makefile, re.M)
        assert found, f"make {word}: the Makefile has no {name}"
    return ""


def _check_pip(words):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for word in words:
        found = re.fullmatch(r"(?:\.|\./fastrdm|fastrdm)\[(.*)\](?: @ .*)?", word)
        for extra in found.group(1).split(",") if found else ():
            assert extra.strip() in extras, f"pip install {word}: there is no extra {extra}"
    return ""


def _check_python(words, run):
    if words[:2] == ["-m", "pip"]:
        return _check_pip(words[2:])
    if words[:2] == ["-m", "fastrdm"]:
        return _fastrdm(words[2:], run)
    if words[:2] == ["-m", "venv"]:
        return ""
    if words[0] == "-c":
        if run:
            exec(compile(words[1], "python -c", "exec"), {"__name__": "__main__"})
        return ""
    if words[0] == "-m" and words[1] in PARSERS:
        module, _, function = PARSERS[words[1]].partition(":")
        parser = getattr(importlib.import_module(module), function)()
        _parse(parser, words[2:])
    elif words[0] == "-m" and words[1] == "pytest":
        for path in words[2:]:
            assert path.startswith("-") or not re.search(r"[/.]", path) or (ROOT / path).exists(), (
                path
            )
    elif words[0] == "-m":
        path = ROOT / words[1].replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), words[1]
    elif run and Path(words[0]).is_file():
        _run_file(words)
    else:
        assert (ROOT / words[0]).is_file(), f"python {words[0]}: there is no such file"
    return ""


def _parse(parser: argparse.ArgumentParser, words):
    try:
        parser.parse_args(words)
    except SystemExit as error:
        raise AssertionError(f"{parser.prog} {shlex.join(words)} is refused") from error


def _run_file(words):
    """Run a program that the page wrote into its folder."""
    import runpy

    before, sys.argv = sys.argv, list(words)
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        sys.argv = before
