"""pytest-benchmark's JSON → bench/RESULTS.md and its pictures: python bench/report.py RUN.json [LATER.json …] [FOLDER].

Contenders of later runs on the same machine take the place of those of the runs before, and the report says so.
"""

import json
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

UNITS = ((1, "s"), (1e-3, "ms"), (1e-6, "µs"))
# Where other programs used more than this share of a processor, the figures are not to be trusted.
BUSY = 0.1
# A median this many times the fastest round was disturbed, so no target is called met or missed by it.
UNSTEADY = 1.5
# What takes up to so many forward passes is drawn again by itself, where its stages can be told apart.
NEAR = 3
STAGES_PICTURE = "RESULTS-path.png"


@dataclass(frozen=True)
class Row:
    """One contender's result in one task."""

    name: str
    median: float
    fastest: float
    rounds: int
    info: dict[str, Any]

    @property
    def pace(self) -> float | None:
        """Median over rounds of the ratio to the yardstick, which ran before each; None where there is none."""
        return statistics.median(self.info["paces"]) if "paces" in self.info else None

    @property
    def unsteady(self) -> bool:
        """Whether its rounds differ too much for the median to say anything."""
        if self.pace:
            return self.pace > UNSTEADY * min(self.info["paces"])
        return self.median > UNSTEADY * self.fastest


@dataclass(frozen=True)
class Task:
    """All contenders of one task, and what it is to reach."""

    name: str
    rows: dict[str, Row]
    ours: str
    targets: dict[str, float]

    def time(self, name: str) -> float | None:
        """Pace of a contender where there is a yardstick, else its median seconds; None if it did not run."""
        return self.rows[name].pace or self.rows[name].median if name in self.rows else None

    def times_slower(self, name: str, than: str) -> float | None:
        """Ratio of two contenders' times; None if one is missing."""
        slow, fast = self.time(name), self.time(than)
        return slow / fast if slow and fast else None

    def noted(self, key: str, name: str | None = None) -> float | None:
        """A figure that the bench noted of a contender, by default of fastrdm; None if there is none."""
        row = self.rows.get(name or self.ours)
        value = row.info.get(key) if row else None
        return value if isinstance(value, float) else None

    @property
    def has_stages(self) -> bool:
        """Whether it is known where its time goes."""
        return any("stages" in row.info for row in self.rows.values())

    def unsteady(self, *names: str) -> bool:
        """Whether one of these contenders was disturbed."""
        return any(self.rows[name].unsteady for name in names if name in self.rows)


@dataclass(frozen=True)
class Goal:
    """How one kind of target is measured, worded and judged; `timed` are the contenders whose times decide."""

    measure: Callable[[Task], float | None]
    text: str
    at_least: bool = True
    timed: tuple[str, ...] = ()


def _slower(slow: str, fast: str, text: str = "{:.2f} ×", at_least: bool = True) -> Goal:
    return Goal(lambda task: task.times_slower(slow, fast), text, at_least, (slow, fast))


def _pace(name: str) -> Goal:
    return Goal(lambda task: task.time(name), "{:.2f} × its time", False, (name,))


def _peak(name: str) -> Goal:
    return Goal(lambda task: task.noted("peak_memory", name), "{:.2f} GiB", False)


# Every other target names a peer, and says how many times faster fastrdm is to be.
GOALS = {
    "share of the FMA peak": lambda ours: Goal(
        lambda task: task.noted("fma_share"), "{:.1%}", timed=(ours,)
    ),
    "extra memory": lambda ours: Goal(
        lambda task: task.noted("extra_memory"), "{:.1%} of the input", False
    ),
    "fastrdm cpp-avx2, by numba": lambda ours: _slower(
        "fastrdm numba-native", "fastrdm cpp-avx2", "{:.2f} × the time", False
    ),
    "the forward pass alone": _pace,
    "the forward pass alone, by the next checkpoint": lambda ours: _pace(
        f"{ours}, next checkpoint"
    ),
    "fp32 on the CPU, by openvino bf16": lambda ours: _slower(ours, f"{ours}, openvino bf16"),
    "scores in fp32, by openvino bf16": lambda ours: Goal(
        lambda task: task.noted("largest_error", f"{ours}, openvino bf16"),
        "{:.3f} percentage points off",
        False,
    ),
    "peak memory": _peak,
    "peak memory, by max_memory=1GiB": lambda ours: _peak(f"{ours}, max_memory=1GiB"),
}


def goal(against: str, ours: str) -> Goal:
    """The goal of that name, else the ratio to the peer of that name."""
    make = GOALS.get(against)
    return make(ours) if make else _slower(against, ours)


def read_tasks(results: dict[str, Any]) -> list[Task]:
    """Tasks in the order of the file, each with its contenders from the fastest to the slowest."""
    ours = f"fastrdm {results['machine_info']['bench']['kernels']}"
    groups: dict[str, list[Row]] = {}
    for entry in results["benchmarks"]:
        info, stats = entry["extra_info"], entry["stats"]
        median, fastest = (stats[key] / info.get("per_round", 1) for key in ("median", "min"))
        row = Row(info["contender"], median, fastest, stats["rounds"], info)
        groups.setdefault(entry["group"], []).append(row)
    return [
        Task(
            name,
            from_fastest(rows),
            rows[0].info.get("ours", ours),
            rows[0].info["targets"],
        )
        for name, rows in groups.items()
    ]


def from_fastest(rows: Iterable[Row]) -> dict[str, Row]:
    """Contenders by name, the fastest first."""
    return {row.name: row for row in sorted(rows, key=lambda row: row.pace or row.median)}


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    size, unit = next((u for u in UNITS if value >= u[0]), UNITS[-1])
    return f"{value / size:.3g} {unit}" if value / size < 1000 else f"{value / size:.0f} {unit}"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table; the first column is text, the others are figures."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] + ["---:"] * (len(head) - 1), *rows)]


def is_busy(results: dict[str, Any]) -> bool:
    """Whether other programs disturbed the run."""
    return results["machine_info"]["bench"].get("others", 0) > BUSY


def stamp(results: dict[str, Any]) -> str:
    """When a run was made, and of which revision."""
    commit = results.get("commit_info", {})
    date = results["datetime"][:16].replace("T", " ")
    return f"{date}, {(commit.get('id') or 'unknown')[:12]}{' with changes' if commit.get('dirty') else ''}"


def header(results: dict[str, Any]) -> list[str]:
    """Which machine, which versions, and what the machine can do at most."""
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
        "Kernels in force": f"{bench['kernels']} (this machine has: {', '.join(bench['isas'])}, numba)",
        "The machine's limits": f"{limits}, measured in the same run",
        "Python": machine["python_version"],
        "Versions": versions,
        "BLAS": "; ".join(bench["blas"]),
    }
    lines = ["# Results", "", *(f"- **{name}:** {fact}" for name, fact in facts.items())]
    if is_busy(results):
        used = f"used {bench['others']:.0%} of a processor meanwhile"
        lines += ["", f"**The machine was busy: other programs {used}. Run again alone.**"]
    return [
        *lines,
        "",
        "Made by `make bench`; what is measured, and how, is in [README.md](README.md). Times are medians; every answer"
        " was held against a float64 oracle.",
        "",
        "![How many times longer than fastrdm each peer takes](RESULTS.png)",
        "",
    ]


def targets(tasks: list[Task], busy: bool) -> list[str]:
    """What the tasks are to reach, and whether they do; on a busy machine nothing is judged by a time."""
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


def _verdict(task: Task, aim: Goal, value: float | None, met: bool, busy: bool) -> str:
    if value is None:
        return "–"
    if aim.timed and busy:
        return "busy"
    if task.unsteady(*aim.timed):
        return "unsteady"
    return "yes" if met else "**no**"


def results_of(task: Task) -> list[str]:
    """One task's table; the columns that nobody fills are left out."""
    columns: dict[str, Callable[[Row], str]] = {
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


def stages_of(task: Task) -> list[str]:
    """The stages that some contender of a task has, in their order."""
    rows = [row.info["stages"] for row in task.rows.values() if "stages" in row.info]
    return [stage for stage in (rows[0] if rows else ()) if any(row[stage] for row in rows)]


def _stage(stage: str, row: Row) -> str:
    value = row.info.get("stages", {}).get(stage)
    return seconds(value) if value else ""


def _figure(value: float | str | None, text: str) -> str:
    return text.format(value) if isinstance(value, float) else value or ""


def draw(tasks: list[Task], path: Path) -> None:
    """Bars of the ratios to fastrdm, one panel a task, on one logarithmic scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    tasks = [task for task in tasks if task.ours in task.rows]
    figure, axes = plt.subplots(
        len(tasks),
        sharex=True,
        squeeze=False,
        figsize=(8, 0.28 * sum(len(task.rows) + 2 for task in tasks) + 0.5),
        height_ratios=[len(task.rows) for task in tasks],
        layout="constrained",
    )
    for axis, task in zip(axes[:, 0], tasks, strict=True):
        names = list(task.rows)
        ratios = [task.times_slower(name, task.ours) for name in names]
        colours = ["tab:blue" if name.startswith("fastrdm") else "tab:grey" for name in names]
        # Bars start at 1, so that what is faster than fastrdm points to the left.
        bars = axis.barh(names, [ratio - 1 for ratio in ratios], left=1, color=colours)
        labels = [f"{r:,.0f} ×" if r >= 100 else f"{r:.3g} ×" for r in ratios]
        axis.bar_label(bars, labels, padding=3, fontsize=8)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_xscale("log")
        axis.invert_yaxis()
        axis.set_title(task.name, fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.15)
    axes[-1, 0].set_xlabel("time relative to fastrdm (logarithmic; longer is slower)", fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_stages(task: Task, path: Path) -> None:
    """A bar for each contender of a whole path, in it what each stage takes; above, the near ones by themselves."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in task.rows.values() if "stages" in row.info]
    fast = [row for row in rows if row.pace <= NEAR]
    panels = [fast, rows] if fast and len(fast) < len(rows) else [rows]
    figure, axes = plt.subplots(
        len(panels),
        squeeze=False,
        figsize=(8, 0.3 * sum(len(panel) + 3 for panel in panels) + 0.5),
        height_ratios=[len(panel) for panel in panels],
        layout="constrained",
    )
    stages = stages_of(task)
    colours = dict(
        zip(stages, [*plt.get_cmap("tab10").colors[: len(stages) - 1], "lightgrey"], strict=True)
    )
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        names = [row.name for row in panel]
        left = [0.0] * len(panel)
        for stage in stages:
            widths = [row.info["stages"][stage] for row in panel]
            axis.barh(names, widths, left=left, color=colours[stage], label=stage)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        for y, (row, end) in enumerate(zip(panel, left, strict=True)):
            label = f"{seconds(row.median)}, {row.pace:.2f} ×"
            axis.annotate(
                label, (end, y), (4, 0), textcoords="offset points", va="center", fontsize=8
            )
        axis.invert_yaxis()
        axis.set_xlabel("seconds", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.2)
    axes[0, 0].set_title(f"{task.name}\n(×: of the forward pass alone)", fontsize=9, loc="left")
    axes[-1, 0].legend(fontsize=8, loc="upper right", frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(sources: list[Path], folder: Path) -> None:
    """Write the report and its pictures."""
    first, *later = [json.loads(source.read_text()) for source in sources]
    tasks = {task.name: task for task in read_tasks(first)}
    lines = header(first)
    for run in later:
        anew = {task.name: task for task in read_tasks(run)}
        told = "; ".join(f"{name}: {', '.join(task.rows)}" for name, task in anew.items())
        lines += [f"Run again on {stamp(run)}: {told}.", ""]
        for name, task in anew.items():
            rows = (tasks[name].rows if name in tasks else {}) | task.rows
            tasks[name] = replace(task, rows=from_fastest(rows.values()))
    lines += targets(list(tasks.values()), any(map(is_busy, (first, *later))))
    for task in tasks.values():
        lines += results_of(task)
    written = [folder / "RESULTS.md"]
    written[0].write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    if kernels := [task for task in tasks.values() if not task.has_stages]:
        written.append(folder / "RESULTS.png")
        draw(kernels, written[-1])
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
