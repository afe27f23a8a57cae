"""Read mutated files of every kind in processes with a deadline and a bound of memory, and count what goes wrong.

    python tests/campaigns/fuzz_readers.py --files 100000 --workers 2 --seed 0 --keep build/findings

A file may be read or refused in one sentence that names it. Everything else is a finding: a crash, a hang, memory over
the bound, or an exception of another kind. Findings are kept with the number and the reader of the mutation.
"""

import argparse
import collections
import contextlib
import faulthandler
import itertools
import json
import os
import random
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from campaigns.common import tally_line  # noqa: E402
from mutations import mutate  # noqa: E402

# Seconds of the processor, so that other programs do not matter, and of the clock where those are not known.
DEADLINE, PATIENCE = 20.0, 900.0
MEMORY = 768 * 2**20
# A worker starts again after so many files, in case one left something behind.
RENEWED = 5000
BATCH = 200
FINE = ("read", "refused")


def outcome_of(reader, path):
    """Read a file: "read", "refused", or a finding and its text."""
    from fastrdm._base import MissingExtraError

    before = _peak(reset=True)
    try:
        reader.read(path)
        found = "read", ""
    except (ValueError, OSError, MissingExtraError) as error:
        text = str(error)
        named = path.name in text or str(path.parent) in text
        chain, cause = [], error
        while cause is not None and len(chain) < 20:
            chain.append(cause)
            cause = cause.__cause__ or cause.__context__
        if any(isinstance(each, MemoryError) for each in chain) and "parser" not in repr(chain):
            found = "memory", text
        elif not named or "\n" in text:
            found = (
                "other exception",
                f"not one sentence that names the file: {type(error).__name__}: {text}",
            )
        else:
            found = "refused", text
    # Any exception of another kind is a finding.
    except BaseException as error:
        frame = error.__traceback__
        while frame.tb_next is not None:
            frame = frame.tb_next
        at = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}"
        found = "other exception", f"{type(error).__name__} at {at}: {str(error)[:300]}"
    if (taken := _peak() - before) > MEMORY:
        found = "memory", f"{taken >> 20} MiB"
    return found


def _peak(reset=False):
    """The peak of the process's memory in bytes, since the last reset."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return next(int(line.split()[1]) for line in status.open() if line.startswith("VmHWM")) * 1024


def mutated(reader, seeds, number, seed):
    """The content of a mutation, with equal numbers the same; number 0 is the file as it was written."""
    if number == 0:
        return seeds[0]
    rng = random.Random(f"{seed}-{reader.name}-{number}")
    change = rng.choice(reader.mutations)
    content = rng.choice(seeds)
    try:
        return change(content, rng, seeds)
    # A change of a container's part may not apply.
    except (ValueError, KeyError, IndexError, OSError, RecursionError, NotImplementedError):
        return mutate(content, rng, seeds)


def work(folder, seed):
    """Read the mutations whose reader and number come on standard input, and write what came of them."""
    crash = (folder / "crash.txt").open("w")
    faulthandler.enable(crash)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (6 * 2**30, 6 * 2**30))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError):
        pass
    from reader_seeds import READERS

    seeds = {}
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        name, number = json.loads(line)
        reader = READERS[name]
        place = folder / name.replace(".", "-")
        if name not in seeds:
            place.mkdir(exist_ok=True)
            reader.beside(place)
            reader.write(place / name)
            seeds[name] = [(place / name).read_bytes()]
        content = mutated(reader, seeds[name], number, seed)
        (place / name).unlink(missing_ok=True)
        (place / name).write_bytes(content)
        outcome, text = outcome_of(reader, place / name)
        if outcome not in FINE:
            shutil.copy(place / name, folder / f"finding-{number}-{name}")
        if number == 0 and outcome == "refused":
            outcome, text = "other exception", f"the file as it was written is refused: {text}"
        answers.write(json.dumps([outcome, text]) + "\n")
        answers.flush()


class ReaderProcess:
    """A process that reads files one after the other, given many at a time."""

    def __init__(self, seed):
        self.seed, self.process, self.content = seed, None, b""
        self.jobs = collections.deque()
        self.n_done = 0
        # The beginning of an answer whose end has not come yet.
        self._left = b""

    def begin(self, jobs):
        """Give the jobs to the process, a new one if there is none."""
        if self.process is None:
            self.folder = tempfile.TemporaryDirectory(prefix="fuzz-")
            command = [
                sys.executable,
                __file__,
                "--work",
                self.folder.name,
                "--seed",
                str(self.seed),
            ]
            with Path(self.folder.name, "log.txt").open("w") as log:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
                )
            self.n_done = 0
        self.jobs.extend(jobs)
        self.process.stdin.write(b"".join(json.dumps(job).encode() + b"\n" for job in jobs))
        self.process.stdin.flush()
        self._started = self._now()

    def answers(self):
        """What came of files since the last time; a crash of the first one left if the process ended."""
        received = self.process.stdout.read1()
        *lines, self._left = (self._left + received).split(b"\n")
        for line in lines:
            outcome, text = json.loads(line)
            name, number = job = self.jobs.popleft()
            if outcome not in FINE:
                self.content = Path(self.folder.name, f"finding-{number}-{name}").read_bytes()
            yield job, outcome, text
            self.n_done += 1
        if not received:
            code = self.process.wait()
            files = (Path(self.folder.name, name) for name in ("crash.txt", "log.txt"))
            text = "".join(file.read_text() for file in files)[-1500:]
            job = self.jobs.popleft()
            self.end(job)
            yield job, "crash", f"exit status {code}: {text}"
        else:
            self._started = self._now()

    def is_late(self):
        """Whether one file has taken longer than the deadline."""
        processor, clock = self._now()
        return processor > self._started[0] + DEADLINE or clock > self._started[1] + PATIENCE

    def _now(self):
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            taken = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            taken = 0.0
        return taken, time.monotonic()

    def end(self, job=None):
        """End the process; keep the content of the file that it was reading."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if job is not None:
                with contextlib.suppress(OSError):
                    name = job[0]
                    self.content = Path(self.folder.name, name.replace(".", "-"), name).read_bytes()
            self.process.stdin.close()
            self.process.stdout.close()
            self.folder.cleanup()
        self.process, self._left = None, b""


class ReaderCampaign:
    """Mutations of each kind of file in turn, with counts by reader and outcome, and the findings."""

    def __init__(self, names, n_files, seed, first, keep, show):
        self.jobs = ((names[i % len(names)], first + i // len(names)) for i in range(n_files))
        self.counts = {name: collections.Counter() for name in names}
        self.findings, self.seed, self.keep, self.show = [], seed, keep, show

    def note(self, worker, job, outcome, text):
        """Count what came of a file, and keep it if it is a finding."""
        name, number = job
        self.counts[name][outcome] += 1
        if outcome in FINE:
            return
        if self.keep:
            self.keep.mkdir(parents=True, exist_ok=True)
            (self.keep / f"{number}-{name}").write_bytes(worker.content)
        self.findings.append((name, number, outcome, text))
        if sum(each[2:] == (outcome, text) for each in self.findings) == 1:
            self.show(f"{name} {number}: {outcome}: {text[:600]}")

    def run(self, n_workers):
        """Read all files."""
        workers = [ReaderProcess(self.seed) for _ in range(n_workers)]
        waiting = selectors.DefaultSelector()

        def begin(worker):
            left = list(worker.jobs) or list(itertools.islice(self.jobs, BATCH))
            worker.jobs.clear()
            if worker.n_done >= RENEWED or not left:
                worker.end()
            if left:
                worker.begin(left)
                waiting.register(worker.process.stdout, selectors.EVENT_READ, worker)

        try:
            for worker in workers:
                begin(worker)
            while waiting.get_map():
                for key, _ in waiting.select(1.0):
                    for found in key.data.answers():
                        self.note(key.data, *found)
                    if key.data.process is None or not key.data.jobs:
                        waiting.unregister(key.fileobj)
                        begin(key.data)
                for key in list(waiting.get_map().values()):
                    if key.data.is_late():
                        waiting.unregister(key.fileobj)
                        job = key.data.jobs.popleft()
                        key.data.end(job)
                        self.note(key.data, job, "hang", f"no answer after {DEADLINE:.0f} s")
                        begin(key.data)
        finally:
            for worker in workers:
                worker.end()


def fuzz(names, n_files, n_workers=1, seed=0, keep=None, first=0, show=print):
    """Read mutations of each kind of file in turn; return counts by reader and outcome, and the findings."""
    campaign = ReaderCampaign(names, n_files, seed, first, keep, show)
    campaign.run(n_workers)
    return campaign.counts, campaign.findings


OUTCOMES = (*FINE, "crash", "hang", "memory", "other exception")


def report(counts):
    """A table of counts by reader, and their sums."""
    lines = [" ".join(f"{title:>15}" for title in ("", *OUTCOMES))]
    for name, found in counts.items():
        lines.append(f"{name:>28} " + " ".join(f"{found[each]:>15}" for each in OUTCOMES))
    total = sum(counts.values(), collections.Counter())
    lines.append(f"{'all':>28} " + " ".join(f"{total[each]:>15}" for each in OUTCOMES))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of readers")
    parser.add_argument("--keep", type=Path, help="folder for the files of findings")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.seed)
        return 0
    from reader_seeds import READERS

    names = [
        name for name in READERS if not options.only or any(part in name for part in options.only)
    ]
    counts, findings = fuzz(
        names, options.files, options.workers, options.seed, options.keep, options.first
    )
    print(report(counts))
    total = sum(counts.values(), collections.Counter())
    problems = {"crashed": total["crash"], "hung": total["hang"], "memory": total["memory"]}
    print(tally_line({"files": total.total()}, problems | {"exceptions": total["other exception"]}))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
