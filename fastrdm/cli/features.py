"""`fastrdm score` of files of features: no network runs."""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fastrdm._base import error_text, is_expected
from fastrdm.cli.printing import complain

if TYPE_CHECKING:
    from fastrdm.scoring import CheckpointScores
    from fastrdm.studies import Study

# Arguments that are for networks, and their values if they are not given.
_OF_NETWORKS = {
    **dict.fromkeys(("preprocessing", "size", "resize", "crop", "mean", "std"), None),
    **dict.fromkeys(
        ("key", "prefix", "engine", "workers", "address", "num_cpus", "num_gpus"), None
    ),
    **dict.fromkeys(("submit", "patience", "max_memory", "projection", "projection_seed"), None),
    **dict.fromkeys(("ema", "watch", "dry_run", "allow_inconsistent"), False),
    "provider": "auto",
    "precision": "fp32",
}


def add_features(parser: argparse.ArgumentParser) -> None:
    """Add how rows of features are matched to the stimuli."""
    rows = (
        "how rows of files of features (.npz, .h5, .npy) are matched to the stimuli: by the names of the images in the "
        "file or in a .csv file beside it, or by the order of the study's stimuli (default: names)"
    )
    parser.add_argument("--rows", choices=("names", "order"), default="names", help=rows)


def are_features(arguments: argparse.Namespace) -> bool:
    """Return whether features are to be scored; ValueError for networks, or options of networks, beside them."""
    from fastrdm.scoring import is_feature_file

    files = [path for path in arguments.weights if is_feature_file(path)]
    if arguments.arch or not files:
        if arguments.rows != "names":
            raise ValueError(
                "--rows is for files of features, .npz, .h5 or .npy, and folders of them, without --arch"
            )
        return False
    if len(files) < len(arguments.weights):
        other = next(path for path in arguments.weights if path not in files)
        raise ValueError(
            f"{files[0]} is a file of features and {other} is not; score features and networks in separate calls"
        )
    values = vars(arguments)
    for name, default in _OF_NETWORKS.items():
        if values.get(name, default) != default:
            raise ValueError(
                f"--{name.replace('_', '-')} is for networks, and {files[0]} is a file of features"
            )
    return True


def label_names_of(weights: Sequence[str], labels: str) -> list[str]:
    """Return the names of the labels of files of features."""
    from fastrdm.scoring import compile_labels

    return list(compile_labels(labels).groupindex)


def feature_scores(
    arguments: argparse.Namespace, studies: "Sequence[Study]"
) -> "Iterator[CheckpointScores]":
    """Yield the scores of each file of features; one that cannot be scored has an error."""
    from fastrdm.scoring import CheckpointScores, find_labels, score_features

    labels = find_labels(arguments.labels, arguments.weights)
    for path in arguments.weights:
        if not arguments.quiet:
            complain(f"scoring {path}")
        try:
            scores = score_features(
                path,
                studies,
                rows=arguments.rows,
                layers=arguments.taps,
                measures=arguments.measures,
                over_time=arguments.over_time,
                weighted=arguments.weighted,
                n_draws=arguments.bootstrap,
                seed=arguments.seed,
            )
        except Exception as error:
            if not is_expected(error):
                raise
            yield CheckpointScores(path, error=error_text(error))
            continue
        yield dataclasses.replace(scores, labels=labels[path])
