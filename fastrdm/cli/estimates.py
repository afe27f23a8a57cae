"""What a sweep would take, printed by --dry-run."""

import dataclasses
import sys

from fastrdm._base import format_bytes, format_seconds
from fastrdm.cli import progress
from fastrdm.scoring import Estimate


def print_estimate(estimate: Estimate, as_json: bool) -> int:
    """Print an estimate; return 1 if something that was named does not exist, else 0."""
    plan = estimate.plan
    if as_json:
        progress.print_line({"event": "estimate", **dataclasses.asdict(estimate)})
        return int(bool(plan.missing))
    for note in plan.left_out:
        print(f"fastrdm: warning: {note.message}", file=sys.stderr)
    for missing in plan.missing:
        print(f"fastrdm: error: {missing}", file=sys.stderr)
    print(
        f"{plan.new} to score, {format_bytes(plan.n_bytes)}; {plan.done} done, {plan.failed} failed"
    )
    if plan.new:
        print(
            f"about {format_seconds(estimate.seconds)} with {estimate.workers} workers, each of up to"
            f" {format_bytes(estimate.memory)}: measured on the first checkpoints, which are not stored"
        )
    return int(bool(plan.missing))
