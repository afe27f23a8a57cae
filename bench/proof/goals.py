"""What the project aims at on a GPU, beside what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.proof.rates import PLAIN

Rows = Mapping[str, Sequence[Mapping[str, Any]]]


def goals(rows: Rows) -> Iterator[dict[str, Any]]:
    """A row for each goal whose section has figures."""
    ours = [r for r in rows.get("rates", ()) if r.get("engine") == "fastrdm" and "error" not in r]
    for precisions, rate in ((("tf32", "bf16"), 100), (("fp32",), 40)):
        near = [r for r in ours if r["precision"] in precisions and r["score difference"] <= 0.1]
        best = max((r["checkpoints/s"] for r in near), default=None)
        what = (
            f"{' or '.join(precisions)}: at least {rate} checkpoints/s, with scores within 0.1"
            " percentage points of float64"
        )
        yield _row(what, best, best is not None and best >= rate)
    best = max((r["× plain"] for r in ours if "× plain" in r), default=None)
    yield _row(f"at least 5 times the rate of {PLAIN}", best, best is not None and best >= 5)
    largest = max(
        (r["RDMs, fp32"] for r in rows.get("parity", ()) if "RDMs, fp32" in r), default=None
    )
    reached = largest is not None and largest <= 1e-5
    yield _row("RDMs of all networks in fp32 within 1e-5 of float64", largest, reached)


def _row(goal: str, value: float | None, reached: bool) -> dict[str, Any]:
    return {"goal": goal, "measured": value, "reached": "yes" if reached else "no"}
