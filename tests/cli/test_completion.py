"""`fastrdm completion`: the scripts complete commands, options, choices and files in real shells."""

import os
import shutil
import subprocess

import pytest

from fastrdm.cli import main
from fastrdm.cli.commands import COMMANDS
from fastrdm.runtimes import PROVIDERS

pytest.importorskip("shtab")
# Of bash: completes the last word of a command line, and prints the candidates.
BASH = """
source {script}
complete_line() {{
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    local name=$(complete -p fastrdm | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    $name fastrdm "${{@: -1}}" "${{@: -2:1}}"
    printf '%s\\n' "${{COMPREPLY[@]}}"
}}
complete_line {words}
"""
LINES = {
    "fastrdm ''": set(COMMANDS),
    "fastrdm ta": {"table"},
    "fastrdm score --prec": {"--precision"},
    "fastrdm score net.onnx --precision f": {"fp32", "fp16"},
    "fastrdm score net.onnx --provider ''": {"auto", "torch", *PROVIDERS},
    "fastrdm table scores.db --format ''": {"text", "csv", "json", "parquet", "xlsx"},
    "fastrdm table sco": {"scores.db"},
    "fastrdm score net.onnx --data ru": {"runs"},
    "fastrdm sweep net.onnx --store sc": {"scores.db"},
    "fastrdm completion f": {"fish"},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    for name in ("scores.db", "net.onnx"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(shell, folder, capsys):
    assert main(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    path = folder.parent / f"{folder.name}.{shell}"
    path.write_text(out)
    return path


def output(*command):
    environment = os.environ | {"HOME": os.devnull}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.stderr == "" and ended.returncode == 0
    return ended.stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash(folder, capsys):
    path = script("bash", folder, capsys)
    for words, expected in LINES.items():
        found = output("bash", "-c", BASH.format(script=path, words=words)).split()
        assert set(found) == expected, words


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish(folder, capsys):
    path = script("fish", folder, capsys)
    for words, expected in LINES.items():
        line = words.replace("''", "")
        found = output("fish", "--no-config", "-c", f"source {path}; complete -C '{line}'")
        names = {row.partition("\t")[0].rstrip("/") for row in found.splitlines()}
        assert expected <= names, words


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_takes_the_script(folder, capsys):
    path = script("zsh", folder, capsys)
    output("zsh", "-f", "-n", str(path))
    loading = f'autoload -Uz compinit; compinit -u -D; eval "$(cat {path})"; print $_comps[fastrdm]'
    assert output("zsh", "-f", "-c", loading).strip() == "_shtab_fastrdm"


@pytest.mark.parametrize("shell", ["tcsh", "powershell"])
def test_other_shells_get_a_script(shell, folder, capsys):
    assert "fastrdm" in script(shell, folder, capsys).read_text()


def test_completion_needs_shtab(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    err = capsys.readouterr().err
    assert "shtab is needed to write a script of completions" in err and "fastrdm[run]" in err
