"""Replaces, rewrites, truncates and removes checkpoints while a sweep reads them, and compares the stored rows.

    python tests/campaigns/changed_files.py --rounds 50

Every second round is a sweep with `--watch`, which has to find the last content of each file by itself. In the others
the same command runs once more when the files have come to rest. The campaign counts

- lost: files whose last content has no rows
- doubled: rows that are there twice
- changed: rows that differ from those of an undisturbed sweep for the same content, including contents of a moment
- failed: files whose last content is reported to be bad
- wrong_status: sweeps that end with another status than 0, or 1 after failures
- hung: sweeps that do not end within a deadline
"""

import collections
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from campaigns.common import SweepProcess, Tally, linked, make, parser_of, sha256_of, undisturbed

COUNTS = ("lost", "doubled", "changed", "failed", "wrong_status", "hung")
WATCHED_S = 8.0


class Changes(threading.Thread):
    """Changes files of a folder until it is stopped; then each file holds one of the contents."""

    def __init__(self, folder, contents, rng):
        super().__init__(name="changes", daemon=True)
        self.folder, self.contents, self.rng = folder, contents, rng
        self.n, self._stopped = 0, threading.Event()
        self.error = None

    def run(self):
        files = sorted(self.folder.iterdir())
        try:
            while not self._stopped.wait(self.rng.uniform(0.01, 0.1)):
                file = self.rng.choice(files)
                content = self.rng.choice(self.contents[file.suffix]).read_bytes()
                self.rng.choice((self._replace, self._grow, self._truncate, self._remove))(
                    file, content
                )
                self.n += 1
        except OSError as error:
            self.error = error

    def stop(self):
        self._stopped.set()
        self.join()
        if self.error is not None:
            raise self.error

    def _pause(self):
        time.sleep(self.rng.uniform(0.01, 0.3))

    def _replace(self, file, content):
        other = self.folder.parent / "other"
        other.write_bytes(content)
        other.replace(file)

    def _grow(self, file, content):
        cut = self.rng.randrange(len(content))
        with file.open("wb") as opened:
            opened.write(content[:cut])
            opened.flush()
            self._pause()
            opened.write(content[cut:])

    def _truncate(self, file, content):
        os.truncate(file, self.rng.randrange(file.stat().st_size))
        self._pause()
        self._replace(file, content)

    def _remove(self, file, content):
        file.unlink()
        self._pause()
        self._replace(file, content)


def add_torch_files(runs):
    """Write every second checkpoint as .pth."""
    import torch
    from safetensors.torch import load_file

    for file in sorted(runs.iterdir())[::2]:
        torch.save(load_file(file), file.with_suffix(".pth"))
        file.unlink()


def rows_by_content(store):
    """The rows of each path and content, also of earlier contents, and the SHA-256 of each path's last content."""
    from fastrdm.scoring import Store

    found, last = collections.defaultdict(list), {}
    with Store(store) as opened:
        names = list(opened.columns(subjects=True, history=True))
        held, sha256 = names.index("held"), names.index("sha256")
        for row in opened.rows(subjects=True, history=True):
            rest = [value for i, value in enumerate(row) if i not in (0, held)]
            found[row[0], row[sha256]].append(repr(rest))
            if row[held] != "before":
                last[row[0]] = row[sha256]
    return found, last


def check(tally, where, place, expected):
    """Compare a store with the files as they are, and its rows with those expected for each content."""
    found, last = rows_by_content(place / "scores.db")
    for file in sorted((place / "runs").iterdir()):
        path = f"runs/{file.name}"
        if last.get(path) != sha256_of(file):
            tally.add("lost", f"{where}: {path}")
    for (path, sha256), rows in found.items():
        # A content of a moment, half old and half new, is not expected.
        if len(rows) != len(set(rows)):
            tally.add("doubled", f"{where}: {path} has {len(rows)} rows")
        elif sha256 in expected and sorted(rows) != sorted(expected[sha256]):
            tally.add("changed", f"{where}: {path}, {sha256}")


def run_round(made, place, expected, rng, tally, watch):
    """Sweep over files that change, then over files at rest."""
    linked(made, place, ("net.onnx", "study"))
    files = sorted((made / "runs").iterdir())
    (place / "runs").mkdir()
    for file in files[: len(files) // 2]:
        shutil.copy(file, place / "runs")
    contents = {each: [f for f in files if f.suffix == each] for each in (".pth", ".safetensors")}
    changes = Changes(place / "runs", contents, rng)
    arguments = ["--engine", "in-process", *(("--watch", "--patience", "1") if watch else ())]
    changes.start()
    sweep = SweepProcess(place, *arguments, cache=made / "cache")
    if watch:
        time.sleep(WATCHED_S)
        changes.stop()
    sweeps = [(sweep, sweep.wait())]
    if not watch:
        changes.stop()
        sweep = SweepProcess(place, *arguments, cache=made / "cache")
        sweeps.append((sweep, sweep.wait()))
    tally.done["rounds"] += 1
    tally.done["changes"] += changes.n
    for number, (sweep, status) in enumerate(sweeps):
        where = f"{place.name}, sweep {number + 1}"
        failed = sweep.paths("failed")
        is_disturbed = number == 0
        if status is None:
            tally.add("hung", where)
        elif status not in ((0, 1) if failed and is_disturbed else (0,)):
            tally.add("wrong_status", f"{where}: {status}: {sweep.errors}")
        if failed and not is_disturbed:
            tally.add("failed", f"{where}: {failed}: {sweep.errors}", len(failed))
    check(tally, place.name, place, expected)


def campaign(rounds, n=20, seed=0, watch=None):
    """Run rounds with `watch`, by default every second one; return the tally."""
    tally, rng = Tally(*COUNTS), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="fastrdm-changed-") as name:
        folder = Path(name)
        # Half of them are further contents of the others' files.
        made = make(folder / "made", 2 * n)
        add_torch_files(made / "runs")
        undisturbed(made, folder / "alone")
        alone, _ = rows_by_content(folder / "alone" / "scores.db")
        expected = {sha256: rows for (_, sha256), rows in alone.items()}
        for number in range(rounds):
            watched = number % 2 == 1 if watch is None else watch
            run_round(made, folder / f"round{number}", expected, rng, tally, watched)
    return tally


def main():
    """Run the campaign; the exit status is 1 if it found a problem."""
    chosen = parser_of(__doc__, n=20).parse_args()
    tally = campaign(chosen.rounds, chosen.checkpoints, chosen.seed)
    print(tally.text)
    return tally.status


if __name__ == "__main__":
    sys.exit(main())
