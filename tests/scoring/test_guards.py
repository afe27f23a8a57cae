"""Files and patterns that would make a sweep hang, use all memory or end, do not."""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_writer import Writer, scored

from fastrdm.cli import main
from fastrdm.networks import WeightsError, files_of, is_complete
from fastrdm.networks.weight_files import check_file
from fastrdm.scoring import file_looks, find_labels, pattern_search, watching
from fastrdm.scoring.file_looks import FileLooks
from fastrdm.scoring.guarded_process import GuardedProcess, GuardError
from fastrdm.scoring.jobs import Job, Stamp
from fastrdm.scoring.listing import Listing
from fastrdm.scoring.pattern_search import PatternError, PatternSearch, is_cheap
from fastrdm.scoring.watching import watched

BACKTRACKS = r"(?P<x>(a+)+)b"
LONG = "a" * 100


def behave(how, argument=None):
    """What a guarded process is asked to do; runs in it."""
    if how == "sleep":
        time.sleep(argument)
    elif how == "reserve":
        return len(bytearray(argument))
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "raise":
        raise RuntimeError(argument)
    elif how == "nest":
        json.loads("[" * argument)
    return [os.getpid(), argument]


@pytest.fixture
def importable(monkeypatch):
    """Lets guarded processes import this module."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.syspath_prepend(Path(__file__).parent.parent)


@pytest.fixture
def guarded(importable):
    with GuardedProcess("test_guards:behave", deadline=5.0, memory=1 << 28) as process:
        yield process


def test_a_process_is_reused_and_started_again_after_its_end(guarded):
    first = guarded.call("name", "caf\udce9\n")
    assert first[1] == "caf\udce9\n" and first[0] not in (0, os.getpid())
    assert guarded.call("name")[0] == first[0]
    with pytest.raises(GuardError, match="failed: RuntimeError"):
        guarded.call("raise", "x")
    with pytest.raises(GuardError, match="nested too deeply"):
        guarded.call("nest", 200_000)
    assert guarded.call("name")[0] == first[0]
    with pytest.raises(GuardError, match=r"ended its process \(signal 9\)"):
        guarded.call("kill")
    second = guarded.call("name")[0]
    assert second != first[0]
    guarded._deadline = 0.2
    with pytest.raises(GuardError, match=r"took longer than 0\.2 s"):
        guarded.call("sleep", 60)
    guarded._deadline = 5.0
    assert guarded.call("name")[0] != second
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no bound of address space")
def test_the_memory_of_the_process_is_bounded(guarded):
    assert guarded.call("reserve", 1 << 20) == 1 << 20
    with pytest.raises(GuardError, match="needs too much memory"):
        guarded.call("reserve", 20 << 30)


def test_one_bad_item_does_not_spoil_the_others(guarded):
    found = list(guarded.map(["a", "raise", "b"]))
    assert [isinstance(each, GuardError) for each in found] == [False, True, False]


def hostile(folder):
    """Files of every kind that must not be read, by their names."""
    (folder / "brackets.safetensors").write_bytes(
        (200_000).to_bytes(8, "little") + b"[" * 200_000 + b"x" * 10
    )
    with (folder / "huge.safetensors").open("wb") as file:
        file.write((20 << 30).to_bytes(8, "little"))
        file.truncate(21 << 30)
    (folder / "brackets.safetensors.index.json").write_bytes(b'{"weight_map":' + b"[" * 200_000)
    os.mkfifo(folder / "pipe.pth")
    os.mkfifo(folder / "pipe.safetensors")
    os.mkfifo(folder / "pipe.onnx")
    os.mkfifo(folder / "pipe.bin.index.json")
    (folder / "device.pth").symlink_to("/dev/zero")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        here = os.open(folder, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{here}/socket.pth")
        os.close(here)
    return sorted(path.name for path in folder.iterdir())


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="files of this kind are Linux's")


@needs_linux
def test_no_file_makes_a_look_hang(tmp_path):
    names = hostile(tmp_path)
    assert len(names) == 9
    for name in names:
        with contextlib.suppress(WeightsError):
            files_of(tmp_path / name)
        Stamp.of(tmp_path / name)
        assert not is_complete(tmp_path / name)
    for name in ("pipe.txt", "device.txt"):
        path = tmp_path / name
        path.symlink_to(path.with_suffix(".pth"))
        with pytest.raises(OSError, match=f"{name} is not a regular file"):
            Listing().add(str(path))
    for name in ("pipe.pth", "device.pth", "socket.pth"):
        with pytest.raises(WeightsError, match="is a pipe, a socket or a device, not a file"):
            check_file(tmp_path / name)


def slow_look(path):
    """Stands for `is_complete`; runs in another process."""
    if "hang" in path:
        time.sleep(60)
    if "die" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    return True


def test_a_watch_goes_on_after_files_that_hang_or_end_a_look(importable, monkeypatch):
    monkeypatch.setattr(file_looks, "_DEADLINE_S", 0.5)
    monkeypatch.setattr(watching, "_WATCH_S", 0.01)
    monkeypatch.setattr(watching, "_SETTLED_S", 0.0)
    calls = []

    class Counted(GuardedProcess):
        def __init__(self, function, *limits):
            super().__init__("test_guards:slow_look", *limits)

        def call(self, path):
            calls.append(path)
            return super().call(path)

    monkeypatch.setattr(file_looks, "GuardedProcess", Counted)
    stamp = Stamp(1, time.time_ns())
    names = ["hang", "die", "good", "other"]

    def present():
        yield from ((Job(name, 0), stamp, "new") for name in names)

    found, in_work = [], set()
    for job in watched(present, in_work, lambda: len(found) == 2, None):
        if job is not None:
            found.append(job.path)
    assert found == ["good", "other"]
    # Those that failed are not looked into again while they do not change.
    assert calls.count("hang") == calls.count("die") == 1


@needs_linux
def test_a_watching_sweep_looks_into_hostile_files(tmp_path):
    hostile(tmp_path)
    looks = FileLooks()
    with contextlib.closing(looks):
        for path in tmp_path.iterdir():
            assert not looks.is_complete(str(path), Stamp.of(path))


def test_a_pattern_that_backtracks_for_ever_is_stopped(monkeypatch):
    monkeypatch.setattr(pattern_search, "_DEADLINE_S", 0.5)
    paths = [f"a{i}b" for i in range(1500)]
    with pytest.raises(PatternError) as error:
        find_labels(BACKTRACKS, [*paths, LONG, *paths])
    assert BACKTRACKS in str(error.value) and f"took longer than 0.5 s on {LONG}" in str(
        error.value
    )
    assert find_labels(BACKTRACKS, ["aab", "b"]) == {"aab": {"x": "aa"}, "b": {}}


def test_every_command_stops_a_pattern_that_backtracks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pattern_search, "_DEADLINE_S", 0.5)
    monkeypatch.chdir(tmp_path)
    writer = Writer("s.db")
    writer.record(scored(1, path=LONG))
    writer.store.close()
    Path(f"{LONG}.onnx").touch()
    (tmp_path / "m.toml").write_text(
        f"[[network]]\nweights = ['{LONG}.onnx']\nlabels = '{BACKTRACKS}'\n"
    )
    commands = [
        ["label", "s.db", "--labels", BACKTRACKS],
        ["table", "s.db", "--where", f"checkpoint ~ {BACKTRACKS}"],
        ["sweep", f"{LONG}.onnx", "--store", "w.db", "--data", "x", "--labels", BACKTRACKS],
        ["sweep", "m.toml", "--store", "w.db", "--data", "x"],
    ]
    for command in commands:
        assert main(command) == 1
        err = capsys.readouterr().err
        assert BACKTRACKS in err and "took longer than 0.5 s on" in err and LONG in err


PATTERNS = st.lists(
    st.sampled_from(
        ["a", "b", "(a", "(?P<x>a", "(?:b", ")", "*", "+", "?", "|", "{2,}", ".", "[ab]"]
    ),
    min_size=1,
    max_size=8,
).map("".join)


@given(PATTERNS)
def test_patterns_that_are_searched_in_this_process_end(pattern):
    with contextlib.suppress(re.error):
        compiled = re.compile(pattern)
        if is_cheap(pattern):
            start = time.process_time()
            compiled.search("a" * 200 + "c")
            assert time.process_time() - start < 5


def test_a_hundred_thousand_names_are_searched_in_blocks():
    paths = [f"runs/seed{i % 7}/epoch{i}.pth" for i in range(100_000)]
    with contextlib.closing(PatternSearch()) as searches:
        for pattern in (r"epoch(?P<n>\d+)", r"seed(?P<seed>\d+)/epoch(?P<n>\d+)"):
            for _ in range(2):
                found = list(searches.labels(pattern, iter(paths)))
                assert len(found) == 100_000 and found[-1]["n"] == "99999"
