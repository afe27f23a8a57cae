"""Submissions for the challenge's test images by the rules of `rules`, with predictions of how they will do.

    python -m models.study.submissions [--rdms DIR] [--data DIR] [--out DIR]

All is chosen and fitted on the studies 92 and 118. A prediction is nested: a rule is carried out on one study alone and
judged on the other, whose images and subjects had no part in it.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

import fastrdm
from fastrdm import FittedRdm
from fastrdm._base import new_file
from fastrdm.studies import Study, algonauts, find_data, open_studies
from models.study.kept import FOLDER, Kept, read_kept
from models.study.network_scores import TEST_STUDY
from models.study.rules import RULES, Fit, LayerPools, NoLayerError, Rule
from models.study.tables import csv_table, markdown

Floats: TypeAlias = NDArray[np.float64]

OUT = Path(__file__).parents[1] / "submissions"
"""The submissions that the repository keeps."""

N_DRAWS = 1000
_LEVEL = (2.5, 97.5)
_TOTAL = "score"


@dataclass(frozen=True)
class Judgement:
    """How a rule that was carried out on other studies does on one: percentages of the noise ceiling.

    `percent`, `low` and `high` are by region, and of the score of both; `mean_rho` is the mean similarity by region.
    """

    study: str
    percent: Mapping[str, float]
    low: Mapping[str, float]
    high: Mapping[str, float]
    mean_rho: Mapping[str, float]


@dataclass(frozen=True)
class Submission:
    """What is submitted for a rule, and its judgements, from which the prediction follows."""

    rule: Rule
    fits: Mapping[str, Fit]
    judgements: tuple[Judgement, ...]

    def predicted(self, quantity: str) -> tuple[float, float, float]:
        """Return the predicted percentage of a region or the score, and its interval.

        The prediction is the mean over the judged studies. Two studies cannot tell how much studies vary, so the
        interval reaches from the lowest end of their intervals to the highest.
        """
        each = self.judgements
        mean = float(np.mean([one.percent[quantity] for one in each]))
        low, high = min(one.low[quantity] for one in each), max(one.high[quantity] for one in each)
        return mean, max(0.0, low), high


def judge(
    fits: Mapping[str, Fit], pools: LayerPools, study: Study, n_draws: int = N_DRAWS
) -> Judgement:
    """Judge fits on a study, with intervals over its subjects and images.

    The draws resample subjects and images together, the same ones for all regions. For a mean, this counts noise more
    than once (see `fastrdm.bootstrap`); here the excess stands for the new subjects and images of the study to predict.
    The draws are shifted to have the observed score as their mean, since a resampled squared correlation is biased.
    """
    value, draws, rho, ceilings = {}, {}, {}, {}
    for region, target in study.targets.items():
        model = fits[region].model
        rdm = model.predict(pools.of(fits[region].pool, study.name))
        drawn = fastrdm.bootstrap(target, rdm, "both", n_draws=n_draws, seed=0, ceiling=False)
        value[region], rho[region] = float(drawn.value[0]), float(drawn.mean_rho[0])
        draws[region], ceilings[region] = drawn.evaluations[0, :, 0], float(target.ceiling)
    value[_TOTAL] = float(np.mean(list(value.values())))
    draws[_TOTAL] = np.mean(list(draws.values()), axis=0)
    ceilings[_TOTAL] = float(np.mean(list(ceilings.values())))
    percent = {key: 100 * value[key] / ceilings[key] for key in value}
    ends = {}
    for key in value:
        shifted = draws[key] - draws[key].mean() + value[key]
        ends[key] = 100 * np.percentile(shifted, _LEVEL) / ceilings[key]
    low, high = ({key: float(end[i]) for key, end in ends.items()} for i in (0, 1))
    return Judgement(study.name, percent, low, high, rho)


def lacking(kept: Sequence[Kept], studies: Sequence[Study]) -> str:
    """Return what is lacking for submissions, or nothing."""
    chosen_by = [study.name for study in studies if study.name != TEST_STUDY]
    if len(chosen_by) < 2:
        return "a rule is judged on another study, so two studies with brain data are needed"
    if not any(each.network == "resnet20" for each in kept):
        return "no RDMs of the ResNet-20 are kept"
    for each in kept:
        if missing := [name for name in (*chosen_by, TEST_STUDY) if name not in each.studies]:
            return f"{each.path.name} has no RDMs of the images {missing[0]}"
    return ""


def make(
    kept: Sequence[Kept], studies: Sequence[Study], n_draws: int = N_DRAWS
) -> list[Submission]:
    """Carry out each rule on all studies, and on each study alone to be judged on the others.

    Raise ValueError if something is lacking.
    """
    if reason := lacking(kept, studies):
        raise ValueError(reason)
    chosen_by = [study for study in studies if study.name != TEST_STUDY]
    pools = LayerPools(kept, [study.name for study in chosen_by])
    made = []
    for rule in RULES:
        judgements = []
        for judged in chosen_by:
            fits = rule.fit(pools, [study for study in chosen_by if study is not judged])
            judgements.append(judge(fits, pools, judged, n_draws))
        made.append(Submission(rule, rule.fit(pools, chosen_by), tuple(judgements)))
    return made


def write(submissions: Sequence[Submission], kept: Sequence[Kept], out: str | Path) -> None:
    """Write each submission into its folder: `submit_fmri.mat` and `.zip`, and the weights of its layers."""
    by_name = {each.name: each for each in kept}
    for each in submissions:
        folder = Path(out) / each.rule.folder
        rdms = {region: _test_rdm(fit.model, by_name) for region, fit in each.fits.items()}
        algonauts.write_submission(folder, rdms, "fmri")
        rows = [
            {"region": region, "layer": layer, "weight": f"{weight:.6g}"}
            for region, fit in each.fits.items()
            for layer, weight in zip(fit.model.layers, fit.model.weights, strict=True)
            if weight > 0
        ]
        rows.sort(key=lambda row: (row["region"], -float(row["weight"])))
        with new_file(folder / "weights.csv") as file:
            file.write(csv_table(rows).encode())


def _test_rdm(model: FittedRdm, by_name: Mapping[str, Kept]) -> Floats:
    """Predict the RDM of the test images."""
    rdms = {}
    for name in model.layers:
        checkpoint, _, layer = name.partition("/")
        rdms[name] = by_name[checkpoint].rdms(TEST_STUDY)[layer]
    return model.predict(rdms)


def section(kept: Sequence[Kept], studies: Sequence[Study], folder: Path) -> str:
    """Make the submissions, write them and `RESULTS-submissions.csv` into a folder, and return the report's section.

    If there can be none, the section says why.
    """
    if reason := lacking(kept, studies):
        return f"{_HEADING}\n\nThere are none: {reason}."
    try:
        submissions = make(kept, studies)
    except NoLayerError as error:
        return f"{_HEADING}\n\nThere are none: {error}."
    write(submissions, kept, folder / "submissions")
    with new_file(folder / "RESULTS-submissions.csv") as file:
        file.write(csv_table(table(submissions)).encode())
    return report(submissions)


def table(submissions: Sequence[Submission]) -> list[dict[str, str]]:
    """Return a row for each submission, judged study and region, and one for each prediction."""
    rows = []
    for each in submissions:
        head = {"submission": each.rule.key, "rule": each.rule.title}
        for quantity in each.judgements[0].percent:
            for one in each.judgements:
                ends = (one.percent[quantity], one.low[quantity], one.high[quantity])
                rho = one.mean_rho.get(quantity)
                text = "" if rho is None else f"{rho:.4f}"
                rows.append(head | _numbers(one.study, quantity, ends) | {"mean_rho": text})
            ends = each.predicted(quantity)
            rows.append(head | _numbers("predicted", quantity, ends) | {"mean_rho": ""})
    return rows


def _numbers(study: str, quantity: str, ends: tuple[float, float, float]) -> dict[str, str]:
    names = ("percent", "low", "high")
    values = {name: f"{value:.2f}" for name, value in zip(names, ends, strict=True)}
    return {"study": study, "quantity": quantity, **values}


def report(submissions: Sequence[Submission]) -> str:
    """Return the report's section: predictions, and what each submission consists of."""
    judged = [one.study for one in submissions[0].judgements]
    quantities = list(submissions[0].judgements[0].percent)
    head = ["submission", *(f"{_label(q)} on {s}" for s in judged for q in quantities)]
    lines, predicted, parts = [], [], []
    for each in submissions:
        name = f"({each.rule.key}) {each.rule.title}"
        values = [f"{one.percent[q]:.1f}" for one in each.judgements for q in quantities]
        lines.append([name, *values])
        ends = [each.predicted(q) for q in quantities]
        predicted.append([name, *(f"{m:.1f} ({low:.1f} to {high:.1f})" for m, low, high in ends)])
        for region, fit in each.fits.items():
            parts.append([name, _label(region), fit.pool, *_layers(fit.model)])
    return _TEMPLATE.format(
        predicted=markdown(["submission", *map(_label, quantities)], predicted, ("submission",)),
        judged=markdown(head, lines, ("submission",)),
        parts=markdown(["submission", "region", "chosen from", "layers", "largest weights"], parts),
    )


def _label(quantity: str) -> str:
    return quantity if quantity == _TOTAL else quantity.upper()


def _layers(model: FittedRdm, n: int = 3) -> tuple[str, str]:
    order = [i for i in np.argsort(-model.weights, kind="stable") if model.weights[i] > 0]
    share = model.weights / model.weights.sum()
    shown = ", ".join(f"{model.layers[i]} {100 * share[i]:.0f} %" for i in order[:n])
    return str(len(order)), shown


_HEADING = "## Submissions for the 78 test images"

_TEMPLATE = (
    _HEADING
    + """

Four submissions, chosen and fitted on the studies 92 and 118 alone:
(a) the paper's rule, one layer of the ResNet-20 for both regions; (b) the best layer of each region, of any network;
(c) non-negative weights of all layers of the ResNet-20; (d) non-negative weights of all layers of a pool of networks,
the pool chosen for each region by how its weights do on the other study.

The brains of the test images are not published. Predictions of how the submissions will do, in percent of the noise
ceiling, stated before it is known:

{predicted}
Each prediction is the mean of two judgements: the rule is carried out on one study (choice of layers, pools and
weights), and judged on the other study's images and subjects. The interval reaches from the lower end of the interval
of the one study to the upper end of the other's, from draws of subjects and images.

{judged}
What is submitted. Layers are those with a weight, of the checkpoints in `models/study/rdms`:

{parts}"""
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m models.study.submissions",
        description="Choose and fit submissions for the challenge's test images on the studies 92 and 118, write them, "
        "and print how they are predicted to do.",
    )
    add = parser.add_argument
    add("--rdms", default=FOLDER, metavar="DIR", help="kept RDMs (default: models/study/rdms)")
    add(
        "--data", metavar="DIR", help="the challenge's data (default: FASTRDM_DATA, ../shared/data)"
    )
    add("--out", default=OUT, metavar="DIR", help="default: models/submissions")
    arguments = parser.parse_args(argv)
    try:
        root = Path(arguments.data) if arguments.data else find_data()
        if root is None:
            raise ValueError("no data: use --data DIR or set FASTRDM_DATA")
        kept, studies = read_kept(arguments.rdms), open_studies(root, modality="fmri")
        submissions = make(kept, studies)
        write(submissions, kept, arguments.out)
    except (ValueError, OSError, ImportError) as error:
        print(f"submissions: error: {error}", file=sys.stderr)
        return 1
    print(report(submissions))
    return 0


if __name__ == "__main__":
    sys.exit(main())
