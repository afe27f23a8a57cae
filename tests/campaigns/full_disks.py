"""Fills the disk of a sweep's store, makes room, and repeats the command until all checkpoints are scored.

    python tests/campaigns/full_disks.py --rounds 50

Where file systems can be mounted (by root on Linux), the store lies on a tmpfs that is too small, or that another file
fills at a random moment. Elsewhere RLIMIT_FSIZE bounds the size of its files. The campaign counts

- lost: checkpoints that were reported and are not stored, or are missing when all is done
- doubled: checkpoints that were scored again after they had been reported, and rows that are there twice
- changed: checkpoints whose rows differ from those of an undisturbed sweep
- wrong_status: sweeps that end otherwise than with status 1 and the sentence of a full disk, or 0 when all is done
- hung: sweeps that do not end within a deadline
"""

import collections
import contextlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from campaigns.common import (
    SweepProcess,
    Tally,
    compare,
    linked,
    make,
    parser_of,
    remove,
    rows_of,
    undisturbed,
)

COUNTS = ("lost", "doubled", "changed", "wrong_status", "hung")
PAGE = 4096
# After so many attempts there is room for all.
MAX_ATTEMPTS = 8
# Imports take a second or more, and each checkpoint milliseconds.
LATEST_FILL_S = 3.0


class SmallFileSystem:
    """A tmpfs of some bytes at a folder."""

    message = "the disk is full"

    def __init__(self, folder, n_bytes):
        folder.mkdir()
        self.folder, self.n_bytes = folder, n_bytes
        self._run("mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", folder)

    @staticmethod
    def _run(*command):
        subprocess.run([str(word) for word in command], check=True, capture_output=True)

    @classmethod
    def is_available(cls):
        """Whether file systems can be mounted here."""
        if sys.platform != "linux" or shutil.which("mount") is None:
            return False
        with tempfile.TemporaryDirectory() as folder:
            try:
                cls(Path(folder, "mount"), PAGE * 16).close()
            except subprocess.CalledProcessError:
                return False
        return True

    def options(self):
        """Options of the process that writes."""
        return {}

    def grow(self, n_bytes):
        self.n_bytes += n_bytes
        self._run("mount", "-o", f"remount,size={self.n_bytes}", self.folder)

    def fill(self):
        """Take all the space that is left."""
        with contextlib.suppress(OSError), (self.folder / "full").open("wb", 0) as file:
            while True:
                file.write(bytes(PAGE))

    def free(self):
        remove(self.folder / "full")

    def close(self):
        self._run("umount", "-l", self.folder)


class LimitedFiles:
    """A folder in whose files processes may write some bytes."""

    # SQLite does not know this limit.
    message = "all that was reported done is in it"
    fill = None

    def __init__(self, folder, n_bytes):
        folder.mkdir()
        self.folder, self.n_bytes = folder, n_bytes

    def options(self):
        import resource

        limits = (self.n_bytes, self.n_bytes)
        return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)}

    def grow(self, n_bytes):
        self.n_bytes += n_bytes

    def free(self):
        pass

    def close(self):
        pass


def run_round(made, place, disk, needed, expected, rng, tally):
    """Repeat a sweep on a disk that becomes full until all is scored; `needed` is the size of a whole store."""
    linked(made, place)
    store, reported = disk.folder / "scores.db", collections.Counter()
    tally.done["rounds"] += 1
    for attempt in range(MAX_ATTEMPTS + 1):
        timer = None
        if attempt == MAX_ATTEMPTS:
            disk.grow(20 * needed)
        elif disk.fill is not None and rng.random() < 0.5:
            timer = threading.Timer(rng.uniform(0, LATEST_FILL_S), disk.fill)
        sweep = SweepProcess(
            place, "--engine", "in-process", store=store, cache=made / "cache", **disk.options()
        )
        if timer is not None:
            timer.start()
        status = sweep.wait()
        if timer is not None:
            timer.cancel()
            timer.join()
        disk.free()
        disk.grow(PAGE * rng.randrange(1, 2 + needed // PAGE))
        where = f"{place.name}, attempt {attempt + 1}"
        reported.update(sweep.paths("scored"))
        missing = expected.keys() - rows_of(store).keys()
        if lost := sorted(missing & reported.keys()):
            tally.add("lost", f"{where}: {lost}", len(lost))
        is_full = status == 1 and disk.message in sweep.errors
        tally.done["full"] += is_full
        if status is None:
            tally.add("hung", where)
        elif not (is_full or (status == 0 and not missing)):
            tally.add("wrong_status", f"{where}: {status}, {len(missing)} missing: {sweep.errors}")
        if status == 0:
            break
    for path, times in reported.items():
        tally.add("doubled", f"{place.name}: {path} was scored {times} times", times - 1)
    compare(tally, place.name, rows_of(store), expected)


def campaign(rounds, n=30, seed=0, disk=None):
    """Run rounds on disks of a class, by default the best that there is; return the tally."""
    disk = disk or (SmallFileSystem if SmallFileSystem.is_available() else LimitedFiles)
    tally, rng = Tally(*COUNTS), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="fastrdm-full-") as name:
        folder = Path(name)
        made = make(folder / "made", n)
        expected, needed = undisturbed(made, folder / "alone")
        for number in range(rounds):
            space = PAGE * rng.randrange(4, 8 + 2 * needed // PAGE)
            with contextlib.closing(disk(folder / f"disk{number}", space)) as made_disk:
                place = folder / f"round{number}"
                run_round(made, place, made_disk, needed, expected, rng, tally)
    return tally


def main():
    """Run the campaign; the exit status is 1 if it found a problem."""
    parser = parser_of(__doc__)
    parser.add_argument("--limit", action="store_true", help="use RLIMIT_FSIZE in any case")
    chosen = parser.parse_args()
    disk = LimitedFiles if chosen.limit else None
    tally = campaign(chosen.rounds, chosen.checkpoints, chosen.seed, disk)
    print(tally.text)
    return tally.status


if __name__ == "__main__":
    sys.exit(main())
