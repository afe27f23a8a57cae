"""What pytest-benchmark's JSON holds: the measurements of each task, and how they compare with its targets."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

UNITS = ((1, "s"), (1e-3, "ms"), (1e-6, "µs"))
# If the median is more than this many times the fastest round, the run was disturbed and no target is judged by it.
UNSTEADY = 1.5


@dataclass(frozen=True)
class Measurement:
    """One contender's result in one task."""

    name: str
    median: float
    fastest: float
    rounds: int
    info: dict[str, Any]

    @property
    def pace(self) -> float | None:
        """Median over rounds of the ratio to the yardstick, which ran before each; None without a yardstick."""
        return statistics.median(self.info["paces"]) if "paces" in self.info else None

    @property
    def unsteady(self) -> bool:
        """Whether its rounds differ too much for the median to be meaningful."""
        if self.pace:
            return self.pace > UNSTEADY * min(self.info["paces"])
        return self.median > UNSTEADY * self.fastest


@dataclass(frozen=True)
class TaskResults:
    """The measurements of one task, and its targets.

    `ours` is the name of fastrdm with the default kernels.
    """

    name: str
    rows: dict[str, Measurement]
    ours: str
    targets: dict[str, float]

    def time(self, name: str) -> float | None:
        """Pace of a contender if there is a yardstick, else its median seconds; None if it did not run."""
        return self.rows[name].pace or self.rows[name].median if name in self.rows else None

    def times_slower(self, name: str, than: str) -> float | None:
        """Ratio of two contenders' times; None if one is missing."""
        slow, fast = self.time(name), self.time(than)
        return slow / fast if slow and fast else None

    def recorded(self, key: str, name: str | None = None) -> float | None:
        """A number that the bench recorded for a contender, by default fastrdm; None without one."""
        row = self.rows.get(name or self.ours)
        value = row.info.get(key) if row else None
        return value if isinstance(value, float) else None

    @property
    def has_stages(self) -> bool:
        """Whether some contender was timed stage by stage."""
        return any("stages" in row.info for row in self.rows.values())

    def unsteady(self, *names: str) -> bool:
        """Whether one of these contenders was unsteady."""
        return any(self.rows[name].unsteady for name in names if name in self.rows)


@dataclass(frozen=True)
class Goal:
    """How one kind of target is measured, printed and judged; `timed` are the contenders with the relevant times."""

    measure: Callable[[TaskResults], float | None]
    text: str
    at_least: bool = True
    timed: tuple[str, ...] = ()


def _slower(slow: str, fast: str, text: str = "{:.2f} ×", at_least: bool = True) -> Goal:
    return Goal(lambda task: task.times_slower(slow, fast), text, at_least, (slow, fast))


def _pace(name: str) -> Goal:
    return Goal(lambda task: task.time(name), "{:.2f} × its time", False, (name,))


def _peak(name: str) -> Goal:
    return Goal(lambda task: task.recorded("peak_memory", name), "{:.2f} GiB", False)


# Any other target names a peer, and the factor by which fastrdm must be faster.
GOALS = {
    "share of the FMA peak": lambda ours: Goal(
        lambda task: task.recorded("fma_share"), "{:.1%}", timed=(ours,)
    ),
    "extra memory": lambda ours: Goal(
        lambda task: task.recorded("extra_memory"), "{:.1%} of the input", False
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
        lambda task: task.recorded("largest_error", f"{ours}, openvino bf16"),
        "{:.3f} percentage points off",
        False,
    ),
    "peak memory": _peak,
    "peak memory, by max_memory=1GiB": lambda ours: _peak(f"{ours}, max_memory=1GiB"),
}


def goal(against: str, ours: str) -> Goal:
    """Return the goal called `against`, else the ratio to the peer of that name."""
    make = GOALS.get(against)
    return make(ours) if make else _slower(against, ours)


def read_tasks(results: dict[str, Any]) -> list[TaskResults]:
    """Return the tasks in the order of the file, each with its contenders from the fastest to the slowest."""
    ours = f"fastrdm {results['machine_info']['bench']['kernels']}"
    groups: dict[str, list[Measurement]] = {}
    for entry in results["benchmarks"]:
        info, stats = entry["extra_info"], entry["stats"]
        median, fastest = (stats[key] / info.get("per_round", 1) for key in ("median", "min"))
        row = Measurement(info["contender"], median, fastest, stats["rounds"], info)
        groups.setdefault(entry["group"], []).append(row)
    return [
        TaskResults(
            name, from_fastest(rows), rows[0].info.get("ours", ours), rows[0].info["targets"]
        )
        for name, rows in groups.items()
    ]


def from_fastest(rows: Iterable[Measurement]) -> dict[str, Measurement]:
    """Measurements by contender, the fastest first."""
    return {row.name: row for row in sorted(rows, key=lambda row: row.pace or row.median)}


def seconds(value: float) -> str:
    """Format a duration with a suitable unit."""
    size, unit = next((u for u in UNITS if value >= u[0]), UNITS[-1])
    return f"{value / size:.3g} {unit}" if value / size < 1000 else f"{value / size:.0f} {unit}"


def stages_of(task: TaskResults) -> list[str]:
    """Stages in which some contender of a task spent time, in their order."""
    rows = [row.info["stages"] for row in task.rows.values() if "stages" in row.info]
    return [stage for stage in (rows[0] if rows else ()) if any(row[stage] for row in rows)]
