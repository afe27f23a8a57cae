"""Lets the clock jump by up to years, forwards and backwards, while two sweeps share a store.

    python tests/campaigns/clock_jumps.py --rounds 50

Wall clocks jump when a machine sets them or resumes; monotonic clocks do not. Where libfaketime is installed (apt-get
install faketime), it changes the clock of whole processes; elsewhere, functions of Python are replaced.
In every second round one sweep is killed; with `--watch` the sweeps watch the folder. The counts are those of
shared_stores.py.
"""

import contextlib
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from campaigns.common import parser_of
from campaigns.shared_stores import campaign

LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")
INJECTED = """
import datetime, os, time

class Clock:
    real = time.time

    @classmethod
    def now(cls):
        with open(os.environ["CLOCK_FILE"]) as file:
            return cls.real() + float(file.read() or 0)

class JumpingDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(Clock.now(), tz)

time.time = Clock.now
time.time_ns = lambda: int(Clock.now() * 1e9)
datetime.datetime = JumpingDatetime
"""
# libfaketime 0.9.10 shifts the end of a sleep, which is a time of the monotonic clock.
SLEEP = """
import select, time

time.sleep = lambda seconds: select.select([], [], [], seconds)
"""


def libfaketime():
    """The library that changes the clock of processes with threads, if it is installed."""
    if sys.platform != "linux":
        return None
    found = [
        path
        for folder in LIBRARIES
        for pattern in ("faketime/libfaketimeMT.so.1", "*/faketime/libfaketimeMT.so.1")
        for path in Path(folder).glob(pattern)
    ]
    return found[0] if found else None


@contextlib.contextmanager
def jumping_clock(place, rng, library=None):
    """An environment of processes whose clock jumps while the context is open."""
    clock, stopped = place / "clock", threading.Event()

    def jump():
        while True:
            seconds = rng.choice((-1, 1)) * 10 ** rng.uniform(0, 8)
            other = clock.with_suffix(".new")
            other.write_text(f"{seconds:+.3f}")
            other.replace(clock)
            if stopped.wait(rng.uniform(0.05, 0.5)):
                return

    (place / "sitecustomize.py").write_text(INJECTED if library is None else SLEEP)
    environment = {"PYTHONPATH": str(place), "CLOCK_FILE": str(clock)}
    if library is not None:
        environment |= {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
    clock.write_text("+0")
    jumps = threading.Thread(target=jump, name="jumps", daemon=True)
    jumps.start()
    try:
        yield environment
    finally:
        stopped.set()
        jumps.join()


def run(rounds, n=30, seed=0, watch=False, library=None):
    """Run rounds of two sweeps whose clock jumps; return the tally."""
    return campaign(
        rounds,
        sweeps=2,
        n=n,
        engine="in-process",
        kill=True,
        seed=seed,
        disturbed=lambda place, rng: jumping_clock(place, rng, library),
        arguments=("--watch", "--patience", "1") if watch else (),
    )


def main():
    """Run the campaign; the exit status is 1 if it found a problem."""
    parser = parser_of(__doc__)
    parser.add_argument("--watch", action="store_true", help="let the sweeps watch")
    parser.add_argument("--injected", action="store_true", help="do not use libfaketime")
    chosen = parser.parse_args()
    library = None if chosen.injected else libfaketime()
    print(f"clocks jump by {library or 'replaced functions of Python'}", flush=True)
    tally = run(chosen.rounds, chosen.checkpoints, chosen.seed, chosen.watch, library)
    print(tally.text)
    return tally.status


if __name__ == "__main__":
    sys.exit(main())
