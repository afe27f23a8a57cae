"""Runs every campaign, one after the other, and prints what each did and found.

    python tests/campaigns/run_all.py --form long
    python tests/campaigns/run_all.py --form short --only full-disk clock

The long form takes hours, the short one minutes; `--rounds` multiplies the lengths of either. Outputs are written to
build/campaigns. What needs a program that is not installed (qemu, Atheris, a free-threaded Python, Ray) is left out,
with a line that tells how to get it. The exit status is 1 if a campaign found a problem.
"""

import argparse
import dataclasses
import importlib.util
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LOGS = ROOT / "build" / "campaigns"
# The campaigns' exit status when a tool is missing.
MISSING = 3
# Problems in several columns of the summary; the rest is counted as "other".
COLUMNS = ("lost", "doubled", "changed", "twice", "hung", "crashed", "other")
ATHERIS = ("arrays.npz", "rsatoolbox.pkl", "version5.mat", "state.pth", "net.onnx", "saved.target")


@dataclasses.dataclass(frozen=True)
class Campaign:
    """A program with its arguments; `{n}` in them is the number of the form, multiplied by `--rounds`."""

    name: str
    program: str
    arguments: str
    short: int = 1
    long: int = 1
    needs: str = ""

    def command(self, form, factor):
        n = max(1, round((self.short if form == "short" else self.long) * factor))
        program = ["-m", "pytest"] if self.program == "pytest" else [str(HERE / self.program)]
        return [sys.executable, *program, *self.arguments.format(n=n).split()]


CAMPAIGNS = (
    Campaign("interruptions", "interruptions.py", "--engines local --count {n}", 5, 300),
    Campaign("interruptions-ray", "interruptions.py", "--engines ray --count {n}", 3, 100, "ray"),
    Campaign("shared-store", "shared_stores.py", "--rounds {n}", 1, 50),
    Campaign("shared-store-killed", "shared_stores.py", "--rounds {n} --sweeps 3 --kill", 2, 50),
    Campaign("full-disk", "full_disks.py", "--rounds {n}", 1, 50),
    Campaign("file-limit", "full_disks.py", "--rounds {n} --limit", 1, 50),
    Campaign("clock", "clock_jumps.py", "--rounds {n}", 1, 50),
    Campaign("clock-watch", "clock_jumps.py", "--rounds {n} --watch", 1, 25),
    Campaign("changed-files", "changed_files.py", "--rounds {n}", 2, 100),
    Campaign("readers", "fuzz_readers.py", "--files {n} --workers 2", 400, 100_000),
    *(
        Campaign(f"atheris-{name}", "atheris_readers.py", f"{name} -max_total_time={{n}}", 10, 600, "atheris")
        for name in ATHERIS
    ),
    Campaign("kernels", "fuzz_kernels.py", "--seconds {n}", 10, 3600),
    Campaign("kernels-threads", "fuzz_kernels.py", "--sanitize thread --seconds {n}", 10, 600),
    Campaign("kernels-neon", "fuzz_kernels.py", "--neon --seconds {n}", 10, 600),
    Campaign("scores", "many_scores.py", "--scores {n}", 20_000, 1_000_000),
    Campaign("start-methods", "pytest", "-q tests/scoring/test_hangs.py -k start_method"),
    Campaign("free-threaded", "free_threads.py", "--scores {n}", 1000, 100_000),
)  # fmt: skip


def run(campaign, form, factor):
    """Run a campaign; return its exit status and its output, which is also written to a file."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{campaign.name}.txt"
    with log.open("wb") as output:
        status = subprocess.run(
            campaign.command(form, factor), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        ).returncode
    return status, log.read_text(errors="replace")


def left_out(campaign):
    """Why a campaign cannot run here; empty if it can."""
    if campaign.needs and importlib.util.find_spec(campaign.needs) is None:
        return f"{campaign.needs} is not installed: pip install {campaign.needs}"
    return ""


def numbers(text):
    return {name.strip(): int(number) for name, number in re.findall(r"([a-z][\w ]*?) (\d+)", text)}


def row(name, status, text, seconds):
    """A row of the summary, and whether the campaign found nothing."""
    if tallies := re.findall(r"^tally: (.*); (.*)$", text, re.MULTILINE):
        done, problems = tallies[-1]
    else:
        # Of libFuzzer, of the random driver, and of pytest.
        done = ", ".join(re.findall(r"(?<=Done )\d+ runs|\d+ inputs|\d+ passed", text)[-1:])
        problems = "crashed 1" if status else "crashed 0, hung 0"
    found = numbers(problems)
    counts = {each: found.pop(each, None) for each in COLUMNS[:-1]}
    counts["other"] = sum(found.values()) if found else None
    if status and not any(counts.values()):
        counts["other"] = 1
    cells = ["-" if counts[each] is None else str(counts[each]) for each in COLUMNS]
    return [name, *cells, f"{seconds:.0f}", done], status == 0


def table(rows):
    """The rows under their titles, aligned."""
    rows = [["campaign", *COLUMNS, "seconds", "done"], *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "\n".join(
        " ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        )
        + f"  {row[-1]}"
        for row in rows
    )


def main():
    """Run the campaigns; the exit status is 1 if one found a problem."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [campaign.name for campaign in CAMPAIGNS]
    parser.add_argument("--form", choices=("short", "long"), default="long")
    parser.add_argument("--rounds", type=float, default=1.0, help="multiplies the lengths")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME",
                        help=", ".join(names))  # fmt: skip
    chosen = parser.parse_args()
    rows, omitted, is_good = [], [], True
    for campaign in CAMPAIGNS:
        if campaign.name not in chosen.only:
            continue
        reason, start = left_out(campaign), time.monotonic()
        if not reason:
            print(f"{campaign.name}: see {LOGS / campaign.name}.txt", flush=True)
            status, text = run(campaign, chosen.form, chosen.rounds)
            if status == MISSING:
                reason = text.strip().splitlines()[-1].removeprefix("skipped: ")
        if reason:
            omitted.append(f"left out: {campaign.name}: {reason}")
            print(omitted[-1], flush=True)
            continue
        cells, is_fine = row(campaign.name, status, text, time.monotonic() - start)
        rows.append(cells)
        is_good &= is_fine
        print(table(rows[-1:]), flush=True)
    print("\n" + "\n".join([table(rows), *omitted]))
    return int(not is_good)


if __name__ == "__main__":
    sys.exit(main())
