import os
import subprocess
import sys

import pytest

from fastrdm.cli import commands, doctor, main


def failing(monkeypatch, error):
    def fail(arguments):
        raise error

    monkeypatch.setattr(doctor, "_doctor", fail)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\n  lines"), "two lines"),
        (FileNotFoundError(2, "No such file or directory", "x.pth"), "x.pth: No such file"),
        (TypeError("no luck"), "unexpected TypeError: no luck; --debug shows the traceback"),
        (KeyError("layer9"), "unexpected KeyError: 'layer9'; --debug shows"),
        (MemoryError(), "unexpected MemoryError; --debug shows the traceback"),
        (RuntimeError("a\nb"), "unexpected RuntimeError: a b; --debug"),
    ],
)
def test_an_error_of_any_type_is_one_line(capsys, monkeypatch, error, line):
    failing(monkeypatch, error)
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"fastrdm: error: {line}") and err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--debug", "doctor"], ["doctor", "--debug"]])
@pytest.mark.parametrize("error", [ValueError("wrong"), TypeError("wrong")])
def test_debug_prints_the_traceback_before_the_line(capsys, monkeypatch, arguments, error):
    failing(monkeypatch, error)
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback") and "in fail" in err
    assert err.splitlines()[-1].startswith("fastrdm: error:") and "--debug" not in err


def test_every_command_has_debug(capsys):
    for command in commands.COMMANDS:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "--debug" in capsys.readouterr().out


def test_symbols_that_a_pipe_cannot_show_are_replaced(tmp_path):
    from fastrdm.cli.sample import write_sample

    sample = write_sample(tmp_path / "s")
    command = [sys.executable, "-m", "fastrdm", "score", sample / "network.onnx", "--data", sample]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert b"best layer: fc" in result.stdout and b"]? +0." in result.stdout
    assert b"mean ?" in result.stderr
