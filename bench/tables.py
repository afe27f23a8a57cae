"""The tables of a report, read back, so that its pictures can be drawn again without measuring."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.results import UNITS, Measurement, TaskResults, from_fastest

# Columns that are no stage; those of stages hold times.
_OTHERS = {
    "contender", "median", "fastest", "× the forward pass", "× fastrdm", "of the FMA peak", "extra memory",
    "peak memory", "largest error", "rounds", "version",
}  # fmt: skip


def read_report(path: Path) -> list[TaskResults]:
    """Return the tasks of a report that `bench.report` wrote, in its order; ValueError if it has none."""
    tasks = list(_tasks(path.read_text(encoding="utf-8").splitlines()))
    if not tasks:
        raise ValueError(f"{path} has no table of contenders")
    return tasks


def fact(path: Path, name: str) -> str:
    """A fact of the report's head, such as its processor."""
    start = f"- **{name}:** "
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix(start) for line in lines if line.startswith(start))


def _tasks(lines: list[str]) -> Iterator[TaskResults]:
    name = ""
    for number, line in enumerate(lines):
        if line.startswith("## "):
            name = line.removeprefix("## ")
        if line.startswith("| contender |"):
            rows = []
            for row in lines[number + 2 :]:
                if not row.startswith("|"):
                    break
                rows.append(dict(zip(_cells(line), _cells(row), strict=True)))
            ours = next(row["contender"].strip("*") for row in rows if "**" in row["contender"])
            unit = next(_seconds(row["median"]) for row in rows if "**" in row["contender"])
            yield TaskResults(name, from_fastest(_measurement(row, unit) for row in rows), ours, {})


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _measurement(row: dict[str, str], unit: float) -> Measurement:
    stages = {column: _seconds(cell) for column, cell in row.items() if column not in _OTHERS}
    info: dict[str, Any] = {"version": row["version"]}
    if pace := row.get("× the forward pass"):
        info["paces"] = [float(pace)]
    fastest = row["fastest"].removesuffix(" (unsteady)")
    # Ratios have more digits than times; with a yardstick they are of paces.
    median = _seconds(row["median"]) if pace else unit * float(row["× fastrdm"])
    if stages:
        # The table rounds each stage; together they take the median.
        scale = median / sum(stages.values())
        info["stages"] = {stage: scale * time for stage, time in stages.items()}
    return Measurement(
        row["contender"].strip("*"), median, _seconds(fastest), int(row["rounds"]), info
    )


def _seconds(text: str) -> float:
    """Seconds of a text such as "2.03 ms"; 0 if it is empty."""
    number, _, unit = text.partition(" ")
    return float(number) * {name: size for size, name in UNITS}[unit] if text else 0.0
