"""Arguments that several commands share, and their values."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastrdm._base import existing_name, parse_bytes
from fastrdm.images import FILTERS
from fastrdm.runtimes import PRECISIONS, PROVIDERS
from fastrdm.scoring import ENGINES

_TAPS = (
    "layers to tap, each [NAME=]LAYER[@TOKENS]: a module's path, a tensor's name in an .onnx file, or a pattern as in "
    "'layer*.?'; TOKENS is flatten, cls, mean or mean[N:] (default: the network's own)"
)

_ARCH = (
    "network of the weights: MODULE:CALLABLE that makes the torch module, e.g. torchvision.models:resnet18, "
    "or a FILE.onnx exported with any weights; once for all WEIGHTS, or once for each"
)
_BATCH_SIZE = (
    "images per batch (default: 32; as many as fit a GPU with torch); use 1 for files with inner shapes fixed to one "
    "image, and for networks with outputs that depend on the other images of a batch"
)
_INCONSISTENT = (
    "score, with a warning, networks whose output for an image depends on its batch or differs between runs (default: "
    "they are an error)"
)


def add_taps(parser: argparse._ActionsContainer) -> None:
    """Add which layers are tapped."""
    parser.add_argument("--taps", type=comma_separated, metavar="A,B", help=_TAPS)


def add_preprocessing(parser: argparse._ActionsContainer) -> None:
    """Add how images are prepared."""
    add = parser.add_argument
    source = (
        "preprocessing of images: timm (pretrained_cfg of the network), transformers (preprocessor_config.json beside "
        "the weights), or a file of timm, of transformers or with fields of fastrdm.Preprocessing (default: the "
        "network's own, else that of the Algonauts development kit)"
    )
    add("--preprocessing", metavar="SOURCE", help=source)
    size = "height and width of images in pixels (default: those of the preprocessing)"
    add("--size", type=_size, metavar="H[,W]", help=size)
    add("--resize", choices=FILTERS, help="filter (default: that of the preprocessing)")
    crop = (
        "crop the centre after resizing: N is the shorter edge in pixels (torchvision), a fraction such as 0.875 is "
        "timm's crop_pct; none keeps the whole image"
    )
    add("--crop", type=_crop, default=argparse.SUPPRESS, metavar="N|FRACTION", help=crop)
    for name in ("mean", "std"):
        text = f"{name} of the channels, for pixels in [0, 1]"
        add(f"--{name}", type=_three, metavar="A,B,C", help=text)


def preprocessing_of_arguments(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Return the preprocessing that the arguments of `add_preprocessing` ask for; None if they are not given."""
    values = vars(arguments)
    found = {name: values[name] for name in ("size", "resize", "mean", "std") if values[name]}
    if "crop" in values:
        found["crop"] = values["crop"]
    if arguments.preprocessing:
        found["source"] = arguments.preprocessing
    return found or None


SELECTION = ("key", "prefix", "ema", "allow_missing")
"""Names of the arguments of `add_selection`."""


def add_selection(parser: argparse._ActionsContainer) -> None:
    """Add which weights of a file are taken."""
    add = parser.add_argument
    key = "dotted key of the weights in their file, such as ema.module (default: the only ones that fit)"
    add("--key", metavar="NAME", help=key)
    prefix = (
        "remove this from the weights' names, and ignore names without it "
        "(default: prefixes such as module. are removed if the names fit only then)"
    )
    add("--prefix", metavar="TEXT", help=prefix)
    ema = "take averaged (EMA) weights (default: the others, where a file has both)"
    add("--ema", action="store_true", help=ema)
    missing = (
        "patterns of weights or modules, such as 'fc*', that may be missing, of another shape or unknown to the "
        "network (default: those on which no tapped layer depends, with a warning)"
    )
    add("--allow-missing", type=comma_separated, default=(), metavar="A,B", help=missing)


def add_checkpoints(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoints, the studies, and the workers."""
    _add_input(parser)
    _add_networks(parser.add_argument_group("networks"))
    _add_studies(parser.add_argument_group("brain data"))
    _add_running(parser.add_argument_group("running"))
    _add_workers(parser.add_argument_group("workers"))
    dry = "print how many checkpoints there are to score, and the time and memory it would take"
    parser.add_argument("--dry-run", action="store_true", help=dry)


def _add_input(parser: argparse.ArgumentParser) -> None:
    paths = (
        "checkpoints, exported .onnx files, folders, globs, .txt files with a path in each line, or .toml manifests of "
        "several networks; for score also files of features, .npz, .h5 or .npy, or folders of them"
    )
    parser.add_argument("weights", nargs="+", metavar="WEIGHTS", help=paths)
    add = parser.add_argument_group("checkpoints").add_argument
    labels = (
        r"regular expression searched in each path; its named groups, as in 'epoch(?P<epoch>\d+)', become labels: "
        "columns of the results"
    )
    add("--labels", default="", metavar="REGEX", help=labels)
    add("--watch", action="store_true", help="score checkpoints as they appear, until a signal")
    patience = "with --watch: stop after S seconds without work"
    add("--patience", type=float, metavar="S", help=patience)


def _add_networks(group: argparse._ActionsContainer) -> None:
    group.add_argument("--arch", action="append", default=[], metavar="ARCH", help=_ARCH)
    add_taps(group)
    add_preprocessing(group)
    add_selection(group)
    group.add_argument("--allow-inconsistent", action="store_true", help=_INCONSISTENT)


def _add_studies(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    folders = "folders of studies or of the challenge's data (default: $FASTRDM_DATA, else ../shared/data)"
    add("--data", type=existing_name, nargs="+", metavar="DIR", help=folders)
    studies = "names of the studies to score against, such as 92,118 (default: all)"
    add("--sets", type=comma_separated, metavar="A,B", help=studies)
    modality = (
        "which of the challenge's data: fmri (EVC, IT), meg (early, late) or both (default: fmri)"
    )
    add("--modality", choices=("fmri", "meg", "both"), default="fmri", help=modality)
    regions = "names of the regions to score against, such as evc,it (default: all)"
    add("--regions", type=comma_separated, metavar="A,B", help=regions)
    measures = (
        "what layers are scored by, for all regions: rsa (similarity of RDMs), cka, cka-debiased (of responses, or of "
        "RDMs as squared distances), ridge, pls (predictions of responses) (default: the studies' own, else rsa)"
    )
    add("--measures", type=comma_separated, metavar="A,B", help=measures)
    over_time = (
        "of regions with several time points: mean (similarities averaged over time within a subject) or each (a score "
        "for each time point) (default: the studies' own, else mean)"
    )
    add("--over-time", choices=("mean", "each"), help=over_time)


def _add_workers(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    place = (
        "where workers run: in-process (one after the other), local (processes on this machine) or ray (a Ray cluster) "
        "(default: in-process for score, local for sweep and with --workers)"
    )
    add("--engine", choices=tuple(ENGINES), help=place)
    workers = "number of workers (default: one for each accelerator, else one)"
    add("--workers", type=int, metavar="N", help=workers)
    start = "seconds until a worker must be ready (default: 120); more if the nodes of a cluster start later"
    add("--start-timeout", type=float, default=120.0, metavar="S", help=start)
    add("--address", metavar="HOST:PORT", help="address of the Ray cluster (default: $RAY_ADDRESS)")
    add("--num-cpus", type=float, metavar="N", help="CPUs of each Ray actor (default: 1)")
    gpus = "GPUs of each Ray actor (default: 1 if there are any)"
    add("--num-gpus", type=float, metavar="N", help=gpus)


def sweep_options(arguments: argparse.Namespace, engine: str) -> dict[str, Any]:
    """Options of a `Sweep` from the arguments of `add_checkpoints`, with a default engine."""
    values = vars(arguments)
    shared = (
        "sets",
        "modality",
        "regions",
        "measures",
        "over_time",
        "max_memory",
        "taps",
        "labels",
        *SELECTION,
    )
    of_networks = ("provider", "precision", "batch_size", "allow_inconsistent", "start_timeout")
    options = {name: values[name] for name in (*shared, *of_networks)}
    options["preprocessing"] = preprocessing_of_arguments(arguments)
    options["provider_options"] = dict(arguments.provider_option)
    options["projection"] = _projection(arguments)
    if arguments.measures is not None:
        from fastrdm.scoring import check_measures

        options["measures"] = check_measures(arguments.measures)
    if arguments.patience is not None and not arguments.watch:
        raise ValueError("--patience is for --watch")
    engine = arguments.engine or ("local" if arguments.workers else engine)
    of_ray = ("address", "num_cpus", "num_gpus")
    resources = {name: values[name] for name in of_ray if values[name] is not None}
    if resources and engine != "ray":
        raise ValueError(f"--{next(iter(resources)).replace('_', '-')} is for --engine ray")
    limits = {"workers": arguments.workers, "start_timeout": arguments.start_timeout}
    options["engine"] = ENGINES[engine](provider=arguments.provider, **limits, **resources)
    return options


def _projection(arguments: argparse.Namespace) -> Any:
    """The projection that the arguments ask for; None if they do not."""
    if arguments.projection is None:
        if arguments.projection_seed is not None:
            raise ValueError("--projection-seed is for --projection")
        return None
    from fastrdm.rdm import SparseProjection

    return SparseProjection(arguments.projection, seed=arguments.projection_seed or 0)


def data_folders(arguments: argparse.Namespace) -> list[Path]:
    """Return the folders of studies: the arguments, or the default folder."""
    if arguments.data:
        return [Path(folder) for folder in arguments.data]
    from fastrdm.studies import find_data

    folder = find_data()
    if folder is None:
        raise ValueError(
            "no data: pass --data DIR or set FASTRDM_DATA; `fastrdm sample DIR` writes a study to try"
        )
    return [folder]


def _add_running(group: argparse._ActionsContainer) -> None:
    add = group.add_argument
    place = (
        "where networks run: auto, torch or torch:DEVICE as torch:cuda:1 (for MODULE:CALLABLE, without an export),"
        f" {', '.join(PROVIDERS)} (default: auto; `fastrdm doctor` tests each)"
    )
    add("--provider", default="auto", metavar="NAME", help=place)
    precision = "precision in which networks run (default: fp32)"
    add("--precision", choices=PRECISIONS, default="fp32", help=precision)
    option = "option of the provider, such as channels_last=true of torch; may be repeated"
    add(
        "--provider-option",
        action="append",
        type=_pair,
        default=[],
        metavar="KEY=VALUE",
        help=option,
    )
    add("--batch-size", type=_positive, metavar="N", help=_BATCH_SIZE)
    memory = (
        "memory for activations, images and inner values of a network in each worker, such as 2GiB; if they do not "
        "fit, images run several times, for some layers or channels at a time (default: no limit)"
    )
    add("--max-memory", type=_bytes, metavar="SIZE", help=memory)
    projection = "project layers with more than N channels to N random components first, on the CPU"
    add("--projection", type=_positive, metavar="N", help=projection)
    seed = "seed of the projection (default: 0)"
    add("--projection-seed", type=_seed, metavar="S", help=seed)


def comma_separated(text: str) -> list[str]:
    """The names in a list A,B."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _size(text: str) -> tuple[int, int]:
    height, comma, width = text.partition(",")
    try:
        return _positive(height), _positive(width if comma else height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not H or H,W in pixels") from None


def _crop(text: str) -> int | float | None:
    if text == "none":
        return None
    if text.strip() == "1":
        raise argparse.ArgumentTypeError(
            "1 is a shorter edge of one pixel; write 1.0 for the fraction"
        )
    try:
        return int(text) if text.strip().isdigit() else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor none") from None


def _three(text: str) -> tuple[float, ...]:
    try:
        first, second, third = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers A,B,C") from None
    return first, second, third


def _bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of bytes such as 2GiB"
        ) from None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return name, value


def _integer(is_valid: Callable[[int], bool], problem: str) -> Callable[[str], int]:
    def integer(text: str) -> int:
        if not is_valid(value := int(text)):
            raise argparse.ArgumentTypeError(f"{value} {problem}")
        return value

    return integer


_positive = _integer(lambda value: value > 0, "is not positive")
_seed = _integer(lambda value: 0 <= value < 1 << 64, "is not between 0 and 2**64 - 1")
# With 39 draws, the smallest and the largest are the ends of a 95 % interval.
_draws = _integer(
    lambda value: value == 0 or value >= 39,
    "is neither 0 nor at least 39, which a 95 % interval needs",
)


def add_bootstrap(parser: argparse._ActionsContainer) -> None:
    """Add the number of draws and their seed."""
    draws = "draws of subjects for 95 %% intervals; 0 gives neither intervals nor significance (default: 1000)"
    parser.add_argument("--bootstrap", type=_draws, default=1000, metavar="N", help=draws)
    seed = "seed of draws and sign flips (default: 0)"
    parser.add_argument("--seed", type=_seed, default=0, metavar="S", help=seed)
