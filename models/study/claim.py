"""The paper's claim as statistics: does the shallower network predict better? A section of the results.

    python -m models.study.claim [--rdms DIR] [--data DIR] --out DIR [--draws 1000] [--seed 0]

Read `claim_choice` first: a layer is chosen on one study and judged on the other. `claim_draws` draws subjects and
images again, `claim_differences` makes intervals of them, `claim_relations` correlates scores with accuracy, epoch and
depth; `claim_study` puts them together, `claim_figures` draws them. Here they become text.
"""

import argparse
import math
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastrdm._base import new_file
from fastrdm.studies import Study, find_data, open_studies, synthetic_notice
from models.study.claim_choice import SCORE, NotComparable
from models.study.claim_differences import Interval, NetworkDifference
from models.study.claim_figures import by_depth, colours_of, draw_all, shown, title_of
from models.study.claim_study import EPOCHS, REFERENCE, Claim, study_claim
from models.study.claim_tables import (
    csv_rows,
    epoch_table,
    is_in_short,
    level_table,
    measure_text,
    number_text,
    of_score,
    p_text,
    range_text,
    relation_table,
    together_table,
)
from models.study.kept import FOLDER, Kept, read_kept
from models.study.tables import csv_table, markdown

ALPHA = 0.05
BETTER, WORSE, UNDECIDED, MIXED = "better", "worse", "undecided", "mixed"


def section(kept: Sequence[Kept], studies: Sequence[Study], folder: str | Path) -> str:
    """Return the section of the results as Markdown, and write its figures and RESULTS-claim.csv into a folder.

    Where networks cannot be compared, the section says why.
    """
    try:
        return write_claim(kept, studies, folder)
    except NotComparable as reason:
        return f"{_TITLE}\n\nNot compared: {reason}.\n"


def write_claim(
    kept: Sequence[Kept],
    studies: Sequence[Study],
    folder: str | Path,
    *,
    n_draws: int = 1000,
    seed: int = 0,
) -> str:
    """As `section`, but raise NotComparable, a ValueError, as `study_claim`."""
    claim = study_claim(kept, studies, n_draws=n_draws, seed=seed)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draw_all(claim, folder)
    with new_file(folder / "RESULTS-claim.csv") as file:
        file.write(csv_table(csv_rows(claim)).encode())
    return to_markdown(claim, synthetic_notice(studies))


def decide(differences: Sequence[NetworkDifference]) -> str:
    """Return BETTER or WORSE if some corrected p are small and the signs of these differences agree, else UNDECIDED.

    Those of any seed decide: the claim is of networks, not of one training.
    """
    signs = {math.copysign(1, d.any_seed.estimate) for d in differences if d.p_holm < ALPHA}
    if len(signs) != 1:
        return UNDECIDED
    return BETTER if signs.pop() > 0 else WORSE


def verdict(claim: Claim) -> str:
    """Return the answer in words, from the differences of the paper's epochs together."""
    together = of_score(claim.together)
    answers = {decide([each]) for each in together}
    lines = [_HEADLINES[answers.pop() if len(answers) == 1 else MIXED], *map(_answer, together)]
    by_epoch = of_score(claim.differences)
    some = "; ".join(
        f"{shown(d.against)} at epoch {d.epoch}, {_points(d.any_seed)}"
        for d in by_epoch
        if d.p_holm < ALPHA
    )
    n = len(by_epoch)
    lines.append(
        f"Of the {n} differences at single epochs, these remain after correction: {some}."
        if some
        else f"None of the {n} differences at single epochs remains after correction."
    )
    return " ".join(lines)


_HEADLINES = {
    BETTER: f"**Yes: {shown(REFERENCE)} predicts better.**",
    WORSE: f"**No: {shown(REFERENCE)} predicts worse.**",
    UNDECIDED: "**These data cannot tell.**",
    MIXED: "**It depends on the other network.**",
}
_CASES = {
    BETTER: "{one} predicts better than {other}: {points}.",
    WORSE: "{one} predicts worse than {other}: {points}.",
    UNDECIDED: "{one} is not told apart from {other}: {points}.",
}


def _answer(each: NetworkDifference) -> str:
    interval = each.any_seed
    epochs = f"over epochs {each.epoch}" if "," in each.epoch else f"at epoch {each.epoch}"
    names = {"one": shown(each.network), "other": f"{shown(each.against)} {epochs}"}
    return _CASES[decide([each])].format(**names, points=_points(interval))


def _points(interval: Interval) -> str:
    return f"{interval.estimate:+.1f} points, 95 % interval {interval.low:+.1f} to {interval.high:+.1f}"


def to_markdown(claim: Claim, notice: str | None = None) -> str:
    """Return the section as Markdown."""
    facts = {
        "title": _TITLE,
        "notice": f"**{notice}**\n\n" if notice else "",
        "verdict": verdict(claim),
        "regions": " and ".join(title_of(region) for region in claim.brains[0].regions),
        "studies": " and ".join(brain.study for brain in claim.brains),
        "reference": shown(REFERENCE),
        "together": together_table(claim.together),
        "by_epoch": epoch_table(claim.differences),
        "n_together": len(of_score(claim.together)),
        "n": len(of_score(claim.differences)),
        "dagger": _DAGGER if any(d.conditional for d in claim.together) else "",
        "all_layers": _all_layers(claim),
        "levels": level_table(claim),
        "bias": _bias(claim),
        "parts": _parts(claim),
        "relations": relation_table(claim.relations),
        "pretrained": _pretrained(claim),
        "n_draws": f"{claim.n_draws:,}",
        "seed": claim.seed,
        "last": EPOCHS[-1],
    }
    return _wrapped(_TEMPLATE.format(**facts))


def _wrapped(text: str) -> str:
    """Return Markdown with the lines of its paragraphs filled; tables and pictures are left alone."""
    parts = [part.strip() for part in text.split("\n\n")]
    filled = [
        part if part[:1] in "#|!" else textwrap.fill(part, 120, break_long_words=False)
        for part in parts
        if part
    ]
    return "\n\n".join(filled) + "\n"


_DAGGER = """
† The network has one seed. The 95 % interval holds for this seed; that for any seed, dotted in the figure, borrows the
variance of seeds from the networks that have several. p is that of any seed.
"""

_TITLE = "## Does the shallower network predict better?"

_TEMPLATE = """{title}

{notice}{verdict}

Networks are compared at equal epochs of the same recipe. A layer (with the size of the images) is chosen by the paper's
rule, the highest mean percentage of {regions}, on one of the studies {studies} and judged on the other; both
directions are averaged, so no network is judged on brains by which it was chosen. A layer with a mean ρ of 0 or less is
never chosen; a network without another layer scores 0. For a region alone, the layer is chosen by that region. The
candidates are the ends of the stages and the classifier, which all networks have.

![Differences with 95 % intervals](RESULTS-differences.png)

{reference} minus the other network, in percentage points of the noise ceiling (mean ρ: in ρ), means over the paper's
epochs:

{together}{dagger}

By epoch, for the score, with the standard deviations of the difference over seeds, subjects and images alone:

{by_epoch}

{parts} {all_layers}

Intervals generalise to other seeds, subjects and images together. In each of {n_draws} draws (seed {seed}), subjects
and images of both studies are drawn again, the same for all networks, pairs of an image with itself are left out, and
the layer is chosen anew. The variance over subjects and images is that of the corrected two-factor bootstrap (Schütt et
al. 2023); the variance over seeds, s² / n, is added without the part that the draws already contain. Intervals are
those of Student's t with Satterthwaite's degrees of freedom. p is corrected by Holm's method, for each measure over the
{n_together} networks of the first table, and over the {n} differences of the second. Subjects of the two studies are
taken to be different people. For comparison, the paper's own difference is 5.2 points: 15.53 % against 10.31 % for
DenseNet-201, on the test images, with one training each.

### Scores by the layer of the other study

{levels}

Percentages are means over seeds and both directions. Where there is one seed, the interval is that of this seed. "Own
choice" is the optimistic score of layers that were chosen by the subjects and images that judge them. {bias}

### Accuracy, epoch, depth and layer

![Score against accuracy](RESULTS-accuracy.png)

![Scores of layers](RESULTS-layers.png)

Layers in the figure are those after epoch {last}, averaged over seeds, sizes and studies. The table has Spearman's ρ of
the held-out percentage with other properties of checkpoints of trained networks. Checkpoints of a run are not
independent, so 95 % intervals draw whole runs again. For layers, the correlation is within a checkpoint, over layers
and sizes, averaged over checkpoints:

{relations}

Depth is the number of weighted layers. There are few networks and one recipe, so depth is not separated from anything
else in which they differ. The rows from epoch {last} on leave out the first epochs, in which everything rises.
{pretrained}

All numbers are in [RESULTS-claim.csv](RESULTS-claim.csv).
"""


def _pretrained(claim: Claim) -> str:
    """Return the part about pretrained networks; empty without any."""
    if not claim.pretrained:
        return ""
    differences = of_score(claim.pretrained)
    rows = [
        [
            shown(d.network),
            *(
                _with_range(each.interval, each.measure)
                for each in claim.pretrained
                if each.network == d.network and is_in_short(each.measure)
            ),
            p_text(d.p_holm),
        ]
        for d in differences
    ]
    network = differences[0].network
    measures = [d.measure for d in claim.pretrained if d.network == network]
    head = ["network", *(measure_text(m) for m in measures if is_in_short(m)), "p (Holm), score"]
    lines = [
        f"{said}: {', '.join(names)}."
        for case, said in _AGAINST.items()
        if (names := [shown(d.network) for d in differences if decide([d]) == case])
    ]
    return f"""
### What ImageNet training would change

Networks that were trained on ImageNet, minus {shown(REFERENCE)} after epoch {differences[0].epoch}, by the same rule.
{" ".join(lines)} They differ in architecture, images, classes and sizes together, so this is not the effect of ImageNet
alone. There is one training of each: intervals are over subjects and images, and the seeds of {shown(REFERENCE)}.
{_peaks(claim)}

{markdown(head, rows, ("network",))}"""


def _peaks(claim: Claim) -> str:
    """Say at which relative depth layers agree best with each region, in networks with and without ImageNet."""
    pretrained = {each.network for each in claim.kept if each.epoch is None}
    parts = []
    for network in colours_of(claim):
        depths, values = by_depth(claim, network, EPOCHS[-1])
        if len(depths) and (network in pretrained or network == REFERENCE):
            best = depths[values[:, 1:, 1].argmax(axis=0)]
            parts.append(f"{shown(network)} {' and '.join(f'{depth:.2f}' for depth in best)}")
    regions = " and ".join(title_of(region) for region in claim.brains[0].regions)
    return (
        f"The relative depth with the highest mean ρ to {regions}, over seeds, sizes and studies: {', '.join(parts)}"
        f" ({shown(REFERENCE)} after epoch {EPOCHS[-1]})."
    )


_AGAINST = {
    BETTER: "Better, by the score",
    WORSE: "Worse, by the score",
    UNDECIDED: "Not told apart by the score",
}


def _bias(claim: Claim) -> str:
    trained = [i for i, each in enumerate(claim.kept) if each.epoch is not None]
    bias = claim.observed.own_best[trained].mean(axis=1) - claim.observed.values[trained]
    means = bias[..., 0].mean(axis=0)
    parts = ", ".join(
        f"{mean:.1f} ({target if target == SCORE else title_of(target)})"
        for target, mean in zip(claim.brains[0].targets, means, strict=True)
    )
    return f"Over all {len(trained)} checkpoints it is higher by {parts} points on average."


def _parts(claim: Claim) -> str:
    """Say where the uncertainty of the differences comes from."""
    several = [d for d in of_score(claim.differences) if not d.conditional]
    if not several:
        return ""
    parts = {"seeds": "sd_seeds", "subjects": "sd_subjects", "images": "sd_images"}
    squares = {of: np.mean([getattr(d, name) ** 2 for d in several]) for of, name in parts.items()}
    total = sum(squares.values())
    shares = ", ".join(f"{of} {100 * square / total:.0f} %" for of, square in squares.items())
    return (
        f"Of the variance of differences between networks with several seeds, on average: {shares}."
    )


def _with_range(interval: Interval, measure: str) -> str:
    return f"{number_text(interval.estimate, measure)} ({range_text(interval, measure)})"


def _all_layers(claim: Claim) -> str:
    """Say what changes if the reference may use all its layers."""
    parts = ", ".join(
        f"{_with_range(d.any_seed, d.measure)} against {shown(d.against)}"
        for d in of_score(claim.all_layers)
    )
    return (
        f"If all layers of {shown(REFERENCE)} that were kept are candidates, also those within stages, the differences"
        f" over the paper's epochs are {parts}."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m models.study.claim",
        description="Does the shallower network predict better? A section with figures and a table.",
    )
    add = parser.add_argument
    add(
        "--rdms", default=FOLDER, metavar="DIR", help="kept RDMs (default: those of the repository)"
    )
    add("--data", metavar="DIR", help="studies (default: FASTRDM_DATA, or ../shared/data)")
    add("--out", required=True, metavar="DIR", help="gets RESULTS-claim.md, .csv and three figures")
    add("--draws", type=int, default=1000, metavar="N", help="default: %(default)s")
    add("--seed", type=int, default=0, help="default: %(default)s")
    arguments = parser.parse_args(argv)
    try:
        data = arguments.data or find_data()
        if data is None:
            raise ValueError("no data: set FASTRDM_DATA to the challenge's data, or pass --data")
        studies = open_studies(data, modality="fmri")
        draws = {"n_draws": arguments.draws, "seed": arguments.seed}
        text = write_claim(read_kept(arguments.rdms), studies, arguments.out, **draws)
    except (ValueError, OSError) as error:
        print(f"claim: {error}", file=sys.stderr)
        return 1
    path = Path(arguments.out) / "RESULTS-claim.md"
    with new_file(path) as file:
        file.write(text.encode())
    print(f"wrote {path}, RESULTS-claim.csv and three figures", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
