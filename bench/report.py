"""pytest-benchmark's JSON → bench/RESULTS.md and its pictures: python -m bench.report RUN.json [LATER.json …] [FOLDER].

Contenders of later runs on the same machine replace those of earlier runs, and the report says so.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.pictures import draw_ratios, draw_stages
from bench.results import (
    Goal,
    Measurement,
    TaskResults,
    from_fastest,
    goal,
    read_tasks,
    seconds,
    stages_of,
)

# If other programs used more than this share of a processor, no target is judged by a time.
BUSY = 0.1
STAGES_PICTURE = "RESULTS-path.png"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Format a Markdown table; the first column is text, the others are numbers."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] + ["---:"] * (len(head) - 1), *rows)]


def is_busy(results: dict[str, Any]) -> bool:
    """Whether other programs disturbed the run."""
    return results["machine_info"]["bench"].get("others", 0) > BUSY


def stamp(results: dict[str, Any]) -> str:
    """Date and revision of a run."""
    commit = results.get("commit_info", {})
    date = results["datetime"][:16].replace("T", " ")
    return f"{date}, {(commit.get('id') or 'unknown')[:12]}{' with changes' if commit.get('dirty') else ''}"


def header(results: dict[str, Any]) -> list[str]:
    """The report's head: machine, versions and the machine's limits."""
    machine = results["machine_info"]
    bench = machine["bench"]
    peak = bench["peak"]
    limits = (
        f"{peak['gflops']:.0f} GFLOP/s of float32 multiply-adds, {peak['gbytes']:.1f} GB/s of reads"
        if isinstance(peak, dict)
        else f"not measured: {peak}"
    )
    versions = ", ".join(f"{name} {version}" for name, version in bench["versions"].items())
    facts = {
        "Date, revision": stamp(results),
        "Processor": machine.get("cpu", {}).get("brand_raw") or machine["processor"] or "unknown",
        "Threads": f"{bench['threads']}, for every contender",
        "Kernels": f"{bench['kernels']} (this machine has: {', '.join(bench['isas'])}, numba)",
        "The machine's limits": f"{limits}, measured in the same run",
        "Python": machine["python_version"],
        "Versions": versions,
        "BLAS": "; ".join(bench["blas"]),
    }
    lines = ["# Results", "", *(f"- **{name}:** {fact}" for name, fact in facts.items())]
    if is_busy(results):
        used = f"used {bench['others']:.0%} of a processor during the run"
        lines += [
            "",
            f"**The machine was busy: other programs {used}. Run the benches again alone.**",
        ]
    return [
        *lines,
        "",
        "Made by `make bench`; [README.md](README.md) describes the tasks and methods. Times are medians; every answer"
        " was compared with a float64 oracle.",
        "",
        "![How many times longer than fastrdm each peer takes](RESULTS.png)",
        "",
    ]


def targets(tasks: list[TaskResults], busy: bool) -> list[str]:
    """The targets of all tasks and whether they are met; on a busy machine no target is judged by a time."""
    rows = []
    for task in tasks:
        for against, bound in task.targets.items():
            aim = goal(against, task.ours)
            value = aim.measure(task)
            met = value is not None and (value >= bound if aim.at_least else value <= bound)
            rows.append(
                [
                    task.name,
                    against,
                    f"{'≥' if aim.at_least else '≤'} {aim.text.format(bound)}",
                    "not measured" if value is None else aim.text.format(value),
                    _verdict(task, aim, value, met, busy),
                ]
            )
    note = "Set for two threads of a processor with AVX-512."
    head = ["task", "against", "target", "measured", "met"]
    return ["## Targets", "", note, "", *table(head, rows), ""]


def _verdict(task: TaskResults, aim: Goal, value: float | None, met: bool, busy: bool) -> str:
    if value is None:
        return "–"
    if aim.timed and busy:
        return "busy"
    if task.unsteady(*aim.timed):
        return "unsteady"
    return "yes" if met else "**no**"


def results_of(task: TaskResults) -> list[str]:
    """A task's table, without empty columns."""
    columns: dict[str, Callable[[Measurement], str]] = {
        "contender": lambda row: f"**{row.name}**" if row.name == task.ours else row.name,
        "median": lambda row: seconds(row.median),
        "fastest": lambda row: seconds(row.fastest) + (" (unsteady)" if row.unsteady else ""),
        "× the forward pass": lambda row: _figure(row.pace, "{:.2f}"),
        "× fastrdm": lambda row: _figure(task.times_slower(row.name, task.ours), "{:.2f}"),
        **{stage: partial(_stage, stage) for stage in stages_of(task)},
        "of the FMA peak": lambda row: _figure(row.info.get("fma_share"), "{:.1%}"),
        "extra memory": lambda row: _figure(row.info.get("extra_memory"), "{:.1%}"),
        "peak memory": lambda row: _figure(row.info.get("peak_memory"), "{:.2f} GiB"),
        "largest error": lambda row: _figure(row.info.get("largest_error"), "{:.1g}"),
        "rounds": lambda row: str(row.rounds),
        "version": lambda row: row.info["version"],
    }
    rows = list(task.rows.values())
    filled = {
        name: cells for name, make in columns.items() if any(cells := [make(row) for row in rows])
    }
    source = rows[0].info.get("source")
    return [
        f"## {task.name}",
        "",
        *([f"On {source}.", ""] if source else []),
        *([f"![Where the time goes]({STAGES_PICTURE})", ""] if task.has_stages else []),
        *table(list(filled), [list(cells) for cells in zip(*filled.values(), strict=True)]),
        "",
    ]


def _stage(stage: str, row: Measurement) -> str:
    value = row.info.get("stages", {}).get(stage)
    return seconds(value) if value else ""


def _figure(value: float | str | None, text: str) -> str:
    return text.format(value) if isinstance(value, float) else value or ""


def main(sources: list[Path], folder: Path) -> None:
    """Write the report and its pictures."""
    first, *later = [json.loads(source.read_text()) for source in sources]
    tasks = {task.name: task for task in read_tasks(first)}
    lines = header(first)
    for run in later:
        repeated = {task.name: task for task in read_tasks(run)}
        names = "; ".join(f"{name}: {', '.join(task.rows)}" for name, task in repeated.items())
        lines += [f"Run again on {stamp(run)}: {names}.", ""]
        for name, task in repeated.items():
            rows = (tasks[name].rows if name in tasks else {}) | task.rows
            tasks[name] = replace(task, rows=from_fastest(rows.values()))
    lines += targets(list(tasks.values()), any(map(is_busy, (first, *later))))
    for task in tasks.values():
        lines += results_of(task)
    written = [folder / "RESULTS.md"]
    written[0].write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    if kernels := [task for task in tasks.values() if not task.has_stages]:
        written.append(folder / "RESULTS.png")
        draw_ratios(kernels, written[-1])
    for task in tasks.values():
        if task.has_stages:
            written.append(folder / STAGES_PICTURE)
            draw_stages(task, written[-1])
    print(f"wrote {', '.join(map(str, written))}")


if __name__ == "__main__":
    runs = [Path(text) for text in sys.argv[1:] if text.endswith(".json")]
    places = [Path(text) for text in sys.argv[1:] if not text.endswith(".json")]
    if not runs or len(places) > 1:
        sys.exit(__doc__)
    main(runs, places[0] if places else Path(__file__).parent)
