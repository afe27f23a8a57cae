"""Arguments that several commands have, and the words that they are made of."""

import argparse

from fastrdm.runtimes import PRECISIONS, PROVIDERS

_TAPS = (
    "layers to tap, each [NAME=]LAYER[@TOKENS]: a module's path, a tensor's name in an .onnx file, or a pattern as in "
    "'layer*.?'; TOKENS is flatten, cls, mean or mean[N:] (default: the network's own)"
)


def add_taps(parser: argparse.ArgumentParser) -> None:
    """Which layers."""
    parser.add_argument("--taps", type=names, metavar="A,B", help=_TAPS)


def add_studies(parser: argparse.ArgumentParser) -> None:
    """What the data's part is, but for the data."""
    parser.add_argument(
        "--sets",
        type=names,
        metavar="A,B",
        help="studies to score against, e.g. 92,118 (default: all)",
    )
    parser.add_argument(
        "--modality",
        choices=("fmri", "meg", "both"),
        default="fmri",
        help="of the challenge's data",
    )


def add_running(parser: argparse.ArgumentParser) -> None:
    """Where and how networks run."""
    parser.add_argument(
        "--provider",
        default="auto",
        help=f"where networks run: auto, {', '.join(PROVIDERS)} (default: auto; `fastrdm info` says what loads)",
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="of networks (default: fp32)"
    )
    parser.add_argument(
        "--provider-option",
        action="append",
        type=option,
        default=[],
        metavar="KEY=VALUE",
        help="an option of the provider's own; may be given several times",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=32,
        metavar="N",
        help="images at once (default: 32); 1 for files whose inner shapes want one image, and for networks whose "
        "answer to an image depends on the others of its batch",
    )
    parser.add_argument(
        "--allow-inconsistent",
        action="store_true",
        help="score, with a warning, networks that give one image several answers: others in a batch with other images "
        "than alone, or others in each run (default: they are an error)",
    )


def names(text: str) -> list[str]:
    """Words with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def option(text: str) -> tuple[str, str]:
    """KEY=VALUE."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} has not the form KEY=VALUE")
    return name, value


def positive(text: str) -> int:
    """A whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value
