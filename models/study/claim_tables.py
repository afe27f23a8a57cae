"""The tables of the claim, as Markdown and as rows of a CSV file."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.study.claim_choice import SCORE
from models.study.claim_differences import Interval, NetworkDifference
from models.study.claim_figures import shown, title_of
from models.study.claim_relations import Relation
from models.study.claim_study import UNITS, Claim
from models.study.tables import markdown


def of_score(differences: Sequence[NetworkDifference]) -> list[NetworkDifference]:
    """Return the differences in percent of the score."""
    return [each for each in differences if each.measure == f"{SCORE} percent"]


def is_in_short(measure: str) -> bool:
    """Whether short tables show a measure: all percentages, and the mean ρ of the score."""
    return measure.endswith("percent") or measure == f"{SCORE} rho"


def number_text(value: float, measure: str, sign: bool = True) -> str:
    """Return a number with the digits of its measure."""
    digits = 3 if measure.endswith("rho") else 2
    return f"{value:{'+' if sign else ''}.{digits}f}"


def range_text(interval: Interval, measure: str, sign: bool = True) -> str:
    """Return an interval with the digits of its measure."""
    return " to ".join(number_text(value, measure, sign) for value in (interval.low, interval.high))


def p_text(value: float) -> str:
    """Return a p value with three digits."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def measure_text(measure: str) -> str:
    """Return a measure's name as tables show it."""
    target, _, unit = measure.partition(" ")
    return title_of(target) if unit == "percent" else "mean ρ"


def together_table(differences: Sequence[NetworkDifference]) -> str:
    """Return differences of the paper's epochs together as Markdown, a row for each percentage, and the mean ρ."""
    rows = [
        [
            shown(d.against) + (" †" if d.conditional else ""),
            d.epoch,
            measure_text(d.measure),
            number_text(d.interval.estimate, d.measure),
            range_text(d.interval, d.measure),
            range_text(d.any_seed, d.measure) if d.conditional else "",
            p_text(d.p_holm),
        ]
        for d in differences
        if is_in_short(d.measure)
    ]
    head = ["against", "epochs", "measure", "difference", "95 % interval", "any seed", "p (Holm)"]
    return _without_empty(head, rows, ("against", "epochs", "measure"))


def epoch_table(differences: Sequence[NetworkDifference]) -> str:
    """Return differences of the score by epoch as Markdown, with the parts of their variance."""
    rows = [
        [
            shown(d.against) + (" †" if d.conditional else ""),
            d.epoch,
            number_text(d.interval.estimate, d.measure),
            range_text(d.interval, d.measure),
            range_text(d.any_seed, d.measure) if d.conditional else "",
            p_text(d.p_holm),
            *(f"{sd:.2f}" for sd in (d.sd_seeds, d.sd_subjects, d.sd_images)),
        ]
        for d in of_score(differences)
    ]
    head = ["against", "epoch", "difference", "95 % interval", "any seed", "p (Holm)"]
    return _without_empty([*head, "SD seeds", "SD subjects", "SD images"], rows, ("against",))


def _without_empty(head: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[str]) -> str:
    """Return a Markdown table without columns that are empty in all rows."""
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    return markdown([head[i] for i in kept], [[row[i] for i in kept] for row in rows], text)


def _rows_of(claim: Claim, network: str, epoch: str) -> list[int]:
    """Return the checkpoints of a network at an epoch, all seeds; "" for a pretrained one."""
    return [
        i
        for i, each in enumerate(claim.kept)
        if each.network == network and ("" if each.epoch is None else str(each.epoch)) == epoch
    ]


def level_table(claim: Claim) -> str:
    """Return the scores of networks at the epochs that are compared as Markdown."""
    by_key: dict[tuple[str, str], dict[str, NetworkDifference]] = {}
    for each in claim.levels:
        by_key.setdefault((each.network, each.epoch), {})[each.measure] = each
    rows = []
    for (network, epoch), by_measure in by_key.items():
        checkpoints = _rows_of(claim, network, epoch)
        top1 = [claim.kept[i].metrics.get("val_top1", math.nan) for i in checkpoints]
        score = by_measure[f"{SCORE} percent"]
        own = claim.observed.own_best[checkpoints, :, 0, 0].mean()
        regions = [by_measure[f"{region} percent"] for region in claim.brains[0].regions]
        rows.append(
            [
                shown(network),
                epoch or "ImageNet",
                str(len(checkpoints)),
                "" if math.isnan(np.mean(top1)) else f"{np.mean(top1):.1f}",
                _most_chosen(claim, checkpoints),
                f"{score.interval.estimate:.2f}",
                range_text(score.interval, score.measure, sign=False),
                f"{own:.2f}",
                *(f"{each.interval.estimate:.2f}" for each in regions),
                number_text(by_measure[f"{SCORE} rho"].interval.estimate, "rho"),
            ]
        )
    regions_head = [title_of(region) for region in claim.brains[0].regions]
    head = ["network", "epoch", "seeds", "top-1", "layer, most often", "score", "95 % interval"]
    head += ["own choice", *regions_head, "mean ρ"]
    return markdown(head, rows, ("network", "epoch", "layer, most often"))


def _most_chosen(claim: Claim, checkpoints: Sequence[int]) -> str:
    """Return the layer that is chosen most often for the score, with its share if it is not always."""
    names = [chosen[0] or "none" for i in checkpoints for chosen in claim.observed.chosen[i]]
    best = max(dict.fromkeys(names), key=names.count)
    n = names.count(best)
    return best if n == len(names) else f"{best} ({n} of {len(names)})"


def relation_table(relations: Sequence[Relation]) -> str:
    """Return correlations of percentages as Markdown, a column for each target."""
    shown_ones = [each for each in relations if each.measure.endswith("percent")]
    targets = list(dict.fromkeys(each.measure for each in shown_ones))
    rows: dict[str, list[Relation]] = {}
    for each in shown_ones:
        rows.setdefault(each.of, []).append(each)
    lines = [
        [of, f"{row[0].n_checkpoints} / {row[0].n_runs}"]
        + [f"{r.rho:+.2f} ({r.low:+.2f} to {r.high:+.2f})" for r in row]
        for of, row in rows.items()
    ]
    head = ["correlation with", "checkpoints / runs", *map(measure_text, targets)]
    return markdown(head, lines, ("correlation with",))


def csv_rows(claim: Claim) -> list[dict[str, Any]]:
    """Return every number of the section as rows with the same keys, for a CSV file."""
    return [*_difference_rows(claim), *_checkpoint_rows(claim), *_relation_rows(claim)]


_COLUMNS = (
    "table", "network", "seed", "epoch", "against", "measure", "estimate", "low", "high", "se", "dof",
    "p", "low_any_seed", "high_any_seed", "p_any_seed", "p_holm", "sd_seeds", "sd_subjects",
    "sd_images", "sd_subjects_images", "sd_together", "own_choice", "top1", "layers",
    "n_checkpoints", "n_runs",
)  # fmt: skip


def _row(**values: Any) -> dict[str, Any]:
    """Return a row with all columns; numbers with six digits, which all kernels agree on."""

    def text(value: Any) -> Any:
        if isinstance(value, float):
            return "" if math.isnan(value) else f"{value:.6g}"
        return "" if value is None else value

    return {column: text(values.get(column)) for column in _COLUMNS}


def _difference_rows(claim: Claim) -> list[dict[str, Any]]:
    tables = {
        "difference": claim.differences,
        "difference, paper's epochs": claim.together,
        "difference, all layers": claim.all_layers,
        "pretrained": claim.pretrained,
        "level": claim.levels,
    }
    return [
        _row(
            table=table,
            low_any_seed=d.any_seed.low,
            high_any_seed=d.any_seed.high,
            p_any_seed=d.any_seed.p,
            sd_subjects_images=d.sd_brains,
            **{**vars(d), **vars(d.interval)},
        )
        for table, differences in tables.items()
        for d in differences
    ]


def _checkpoint_rows(claim: Claim) -> list[dict[str, Any]]:
    """Return what each checkpoint scores on each study, by the layer that the other study chose."""
    found = []
    for i, each in enumerate(claim.kept):
        for b, brain in enumerate(claim.brains):
            for t, target in enumerate(brain.targets):
                for u, unit in enumerate(UNITS):
                    found.append(
                        _row(
                            table=f"checkpoint, judged on {brain.study}",
                            network=each.network,
                            seed=each.seed,
                            epoch=each.epoch,
                            measure=f"{target} {unit}",
                            estimate=float(claim.observed.held_out[i, b, t, u]),
                            own_choice=float(claim.observed.own_best[i, b, t, u]),
                            top1=each.metrics.get("val_top1", math.nan),
                            layers=claim.observed.chosen[i][b][t],
                        )
                    )
    return found


def _relation_rows(claim: Claim) -> list[dict[str, Any]]:
    return [
        _row(
            table=f"correlation with {each.of}",
            measure=each.measure,
            estimate=each.rho,
            **{name: getattr(each, name) for name in ("low", "high", "n_checkpoints", "n_runs")},
        )
        for each in claim.relations
    ]
