"""`--json`: every command has it, and prints one document."""

import json
import sys

import pytest

from fastrdm.cli.commands import COMMANDS, make_parsers
from fastrdm.cli.json_output import JsonRows, echo_json_rows
from fastrdm.cli.printing import OutputClosedError


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json(command):
    _, commands = make_parsers([command])
    (action,) = (a for a in commands[command]._actions if "--json" in a.option_strings)
    assert "JSON" in action.help


def test_rows_are_an_array_with_a_line_each(capsys):
    echo_json_rows([{"a": 1}, {"a": "é\x1b"}])
    out = capsys.readouterr().out
    assert out == '[\n{"a": 1},\n{"a": "\\u00e9\\u001b"}\n]\n' and len(json.loads(out)) == 2
    echo_json_rows([])
    assert json.loads(capsys.readouterr().out) == []


def test_rows_are_written_as_they_come(capsys):
    with JsonRows("results", "failures") as document:
        assert capsys.readouterr().out == ""
        document.add({"a": 1})
        assert capsys.readouterr().out == '{"results": [\n{"a": 1}'
        document.add({"a": 2})
        document.more["failures"].append("x")
        rest = capsys.readouterr().out
    rest += capsys.readouterr().out
    assert json.loads('{"results": [\n{"a": 1}' + rest) == {
        "results": [{"a": 1}, {"a": 2}],
        "failures": ["x"],
    }


def test_without_rows_it_is_an_object_too(capsys):
    with JsonRows("results", "failures"):
        pass
    assert json.loads(capsys.readouterr().out) == {"results": [], "failures": []}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_object_is_valid_after_an_error_or_a_signal(error, capsys):
    with pytest.raises(error), JsonRows("results", "failures") as document:
        document.add(1)
        raise error
    assert json.loads(capsys.readouterr().out) == {"results": [1], "failures": []}
    # Nothing is printed if the command could not begin.
    with pytest.raises(error), JsonRows("results"):
        raise error
    assert capsys.readouterr().out == ""


def test_nothing_more_is_written_to_a_closed_pipe(capsys, monkeypatch):
    with pytest.raises(OutputClosedError), JsonRows("results") as document:
        document.add(1)
        monkeypatch.setattr(sys, "stdout", None)
        raise OutputClosedError
