"""`fastrdm evaluate`: a submission, scored as the challenge does."""

import argparse
from typing import TYPE_CHECKING, Any

from fastrdm._base import existing_name
from fastrdm.cli.arguments import add_bootstrap
from fastrdm.cli.json_output import add_json
from fastrdm.cli.printing import echo, echo_json, note

if TYPE_CHECKING:
    from fastrdm.studies import algonauts


def add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    """Add the arguments of `evaluate`."""
    evaluate.description = (
        "Score an Algonauts 2019 submission (.mat, .npy, .npz) against a target file."
    )
    evaluate.add_argument(
        "submission", type=existing_name, metavar="SUBMISSION", help="RDMs of a model"
    )
    evaluate.add_argument(
        "target",
        type=existing_name,
        metavar="TARGET",
        help="RDMs of the subjects, such as target_fmri.mat",
    )
    ceilings = (
        "use the ceilings published for these images; none computes them from the subjects (default: by number of "
        "conditions)"
    )
    sets = ("92", "118", "78", "none", "infer")
    evaluate.add_argument("--set", choices=sets, default="infer", help=ceilings)
    add_bootstrap(evaluate)
    add_json(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from fastrdm.studies import algonauts

    evaluation = algonauts.evaluate(arguments.submission, arguments.target, arguments.set)
    uncertainty = _uncertainty(evaluation, arguments.bootstrap, arguments.seed)
    if arguments.json:
        record = evaluation.to_dict()
        for name, facts in uncertainty.items():
            record[name] |= {**facts, "draws": arguments.bootstrap, "seed": arguments.seed}
        echo_json(record)
        return 0
    _print(evaluation, uncertainty, arguments)
    return 0


def _print(
    evaluation: "algonauts.Evaluation",
    uncertainty: dict[str, dict[str, Any]],
    arguments: argparse.Namespace,
) -> None:
    from fastrdm.cli.columns import print_table
    from fastrdm.scoring import score_name

    published = evaluation.set and f"published for the {evaluation.set} images"
    note(f"noise ceilings {published or 'computed from the subjects'}")
    numbers = ["R²", "± SD", "mean ρ", "ceiling", "% of ceiling", "p"]
    if uncertainty:
        numbers += ["95 % interval", "p, sign flips", "corrected"]
    rows = [["region", *numbers]]
    for name, region in evaluation.regions.items():
        cells = [
            f"{value:.4f}" for value in (region.r2, region.std, region.mean_rho, region.ceiling)
        ]
        cells[2] += "‡" if region.mean_rho < 0 else " "
        cells += [f"{region.percent_nc:.4f}", f"{region.p:.4e}"]
        if name in uncertainty:
            facts = uncertainty[name]
            low, high = facts["interval"]
            cells += [f"[{low:.2f}, {high:.2f}]"]
            cells += [f"{facts[test]:.4e}" for test in ("p_sign_flip", "p_corrected")]
        rows.append([name.upper(), *cells])
    print_table(lambda: rows, right=set(numbers))
    score = evaluation.score
    ceilings = [region.ceiling for region in evaluation.regions.values()]
    ceiling = sum(ceilings) / len(ceilings)
    name = score_name(list(evaluation.regions))
    echo(f"{name} = {score.r2:.4f} ÷ {ceiling:.4f} = {score.percent_nc:.4f} %")
    if any(region.mean_rho < 0 for region in evaluation.regions.values()):
        note(
            "‡ mean ρ below 0: the submission is opposite to the brain, which the score does not show"
        )
    if uncertainty:
        note(
            "p is the challenge's test of ρ², which is never negative; the sign flips test over subjects whether ρ is"
            f" above 0, corrected for both regions. The interval of % of ceiling comes from subjects resampled"
            f" {arguments.bootstrap} times, seed {arguments.seed}."
        )


def _uncertainty(
    evaluation: "algonauts.Evaluation", n_draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Interval of the percentage and sign-flip tests by region; empty for one subject or without draws."""
    from fastrdm.inference import max_statistic, subject_intervals

    regions = evaluation.regions
    rho = [[region.rho] for region in regions.values()]
    if n_draws == 0 or any(len(one[0]) < 2 for one in rho):
        return {}
    tests = zip(*(values.tolist() for values in max_statistic(rho, seed=seed)), strict=True)
    facts = {}
    for (name, region), (p, corrected) in zip(regions.items(), tests, strict=True):
        squared = [[r**2 for r in region.rho]]
        (bounds,) = subject_intervals(squared, n_draws=n_draws, seed=seed).tolist()
        interval = [100 * bound / region.ceiling for bound in bounds]
        facts[name] = {"interval": interval, "p_sign_flip": p, "p_corrected": corrected}
    return facts
