"""What a terminal shows and a pipe gets: width, colours by NO_COLOR, FORCE_COLOR and TERM, and nothing but data."""

import os
import re
import subprocess
import sys

import pytest
from store_writer import Writer, scored

pty = pytest.importorskip("pty", reason="the system has no pseudo-terminals")
pytest.importorskip("rich")

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
NAME = "runs/a-very-long-name-of-a-run/[bold]seed1/checkpoint-of-epoch001.pth"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("terminal") / "s.db"
    writer = Writer(path)
    writer.record(scored(1, path=NAME))
    writer.store.close()
    return path


def environment(**variables):
    names = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM", "COLORTERM", "TTY_COMPATIBLE")
    rest = {name: value for name, value in os.environ.items() if name not in names}
    return rest | {"TERM": "xterm-256color"} | variables


def on_terminal(*arguments, **variables):
    """Run the command line in a pseudo-terminal; return its status and what it shows."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "fastrdm", *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment(**variables)
    )
    os.close(follower)
    shown = b""
    try:
        while block := os.read(leader, 65536):
            shown += block
    except OSError:
        # Linux reports the end of a terminal so.
        pass
    finally:
        os.close(leader)
    return process.wait(), shown.decode().replace("\r\n", "\n")


def in_pipe(*arguments, **variables):
    command = [sys.executable, "-m", "fastrdm", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(**variables)
    )


@pytest.mark.parametrize("width", [110, 140])
def test_a_table_is_as_wide_as_the_terminal_and_loses_nothing(store, width):
    status, shown = on_terminal("table", store, COLUMNS=str(width))
    assert status == 0 and "\x1b[1m" in shown
    *rows, end = ANSI.sub("", shown).splitlines()
    assert end == "1 checkpoint, 0 failed"
    rows = [row for row in rows if "‡ mean" not in row]
    assert max(map(len, rows)) <= width
    cells = [row[: rows[0].index("arch")].strip() for row in rows[1:]]
    assert "".join(cells).startswith(NAME)


def test_a_table_wider_than_the_terminal_has_whole_lines(store):
    piped = in_pipe("table", store)
    _, shown = on_terminal("table", store, COLUMNS="30")
    assert shown == piped.stdout + piped.stderr


@pytest.mark.parametrize(
    ("variables", "styled"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_styles_on_a_terminal(store, variables, styled):
    for arguments in (("table", store), ("table", "missing.db")):
        _, shown = on_terminal(*arguments, COLUMNS="120", **variables)
        assert ("\x1b[" in shown) == styled, shown


def test_an_error_is_red_and_whole(store):
    _, shown = on_terminal("table", "missing[red].db")
    assert shown.startswith("\x1b[1;31mfastrdm: error:\x1b[0m missing[red].db")
    status, plain = on_terminal("table", "missing[red].db", NO_COLOR="1")
    assert status == 1 and plain == ANSI.sub("", shown)


def test_a_pipe_gets_rows_alone(store):
    ended = in_pipe("table", store)
    lines = ended.stdout.splitlines()
    assert ended.returncode == 0 and len(lines) == 1 + 4 and "\x1b" not in ended.stdout
    assert lines[0].startswith("checkpoint ") and all(NAME in line for line in lines[1:])
    assert ended.stderr.endswith("1 checkpoint, 0 failed\n")


def test_force_color_styles_messages_in_a_pipe(store):
    ended = in_pipe("table", "missing.db", FORCE_COLOR="1")
    assert ended.stderr.startswith("\x1b[1;31mfastrdm: error:\x1b[0m ")
    ended = in_pipe("table", "missing.db", FORCE_COLOR="1", NO_COLOR="1")
    assert ended.stderr.startswith("fastrdm: error: ")


@pytest.mark.parametrize("width", [50, 100])
def test_the_numbers_of_score_are_whole_on_any_terminal(tmp_path, width):
    from fastrdm.cli.sample import write_sample

    study = write_sample(tmp_path / "study", n_conditions=12, n_subjects=8)
    arguments = ("score", study / "network.onnx", "--data", study, "--quiet")
    status, shown = on_terminal(*arguments, COLUMNS=str(width), NO_COLOR="1")
    table = [line for line in shown.splitlines() if line.startswith("│")]
    assert status == 0 and len(table) == 5 + 1 and not any("…" in line for line in table)
    assert "score: challenge score: mean R² of EVC and IT" in shown and "\x1b" not in shown


@pytest.mark.parametrize(("term", "is_possible"), [("xterm", True), ("dumb", False)])
def test_progress_is_not_shown_on_a_dumb_terminal(monkeypatch, term, is_possible):
    from fastrdm.cli.printing import can_show_progress

    assert not can_show_progress()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", term)
    assert can_show_progress() == is_possible
