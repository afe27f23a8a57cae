"""The replication study: pretrained networks → best layers, submissions, figures 4 and 5, and the published table.

    python -m models.study.replicate --data DIR --out OUT [--weights-dir W] [--networks A,B] [--checkpoints RUN]

OUT has `table.csv`, `table.md` and `figure4.png`, with checkpoints `figure5.png`. For each network
OUT/networks/NAME has `network.onnx`, the network as it was scored; `scores.json`, by which a second call knows what is
done; and the submission of its best layer. OUT/checkpoints/NAME has the same but for the network.
"""

import argparse
import contextlib
import csv
import functools
import hashlib
import io
import json
import pickle
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

import fastrdm
from fastrdm._base import new_file, require
from fastrdm.networks import (
    check_file,
    hash_file,
    is_checkpoint,
    is_onnx,
    load_state_dict,
    load_weights,
)
from fastrdm.runtimes import PRECISIONS, PROVIDERS, Architecture, OnnxModel
from fastrdm.scoring import modality_of
from fastrdm.studies import Study, algonauts, find_data, open_studies
from models.networks import NETWORKS, TAPS, build, check_names, fetch, pretrained, url_of
from models.study.comparison import Published, cell, markdown, rows
from models.study.figures import Bar, Panel, draw_bars
from models.study.network_scores import TEST_SET, NetworkScores, SubjectResult, score_rdms

STUDY = (*(name for name in NETWORKS if url_of(name)), "resnet20")
"""The networks of the study: those whose weights were published, and the paper's own."""

PUBLISHED = "published/replication_fmri.csv"
"""The published table, in the folder of the challenge's data."""

_BASELINE = "alexnet"
# The leaderboard's row of AlexNet on the test images, fMRI.
_BASELINE_78 = 7.4066
_HEADER = {
    "network": "network",
    "image_set": "set",
    "layer": "best layer",
    "evc": "EVC",
    "evc_rho": "mean ρ",
    "evc_published": "published",
    "evc_difference": "difference",
    "it": "IT",
    "it_rho": "mean ρ",
    "it_published": "published",
    "it_difference": "difference",
    "score": "score",
    "score_published": "published",
    "score_difference": "difference",
    "score_std": "SD",
    "evc_p": "p EVC",
    "it_p": "p IT",
    "note": "note",
}


@dataclass(frozen=True)
class Run:
    """How and on what networks are run, and whether a submission has the best layer of each region, or of both."""

    studies: Sequence[Study]
    provider: str = "auto"
    precision: str = "fp32"
    batch_size: int = 32
    progress: bool = False
    by_region: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Those of `OnnxModel`."""
        return {
            "provider": self.provider,
            "precision": self.precision,
            "batch_size": self.batch_size,
        }

    @functools.cached_property
    def data(self) -> str:
        """SHA-256 of the stimuli, the targets and the test images."""
        digest = hashlib.sha256()
        for study in self.studies:
            digest.update(repr((study.name, list(study.targets))).encode())
            for target in study.targets.values():
                digest.update(pickle.dumps(target))
            for image in (*study.stimuli, *study.test_stimuli):
                digest.update(f"{image.name} {hash_file(image)}".encode())
        return digest.hexdigest()

    @property
    def test_images(self) -> list[Path]:
        """The images that submissions are for; none unless the regions are those of the challenge's fMRI."""
        regions = {region for study in self.studies for region in study.targets}
        if {modality_of(region) for region in regions} != {"fmri"}:
            return []
        return list(next((s.test_stimuli for s in self.studies if s.test_stimuli), ()))


class HasRdms(Protocol):
    """A network by its layers' RDMs: an `OnnxModel`, or several."""

    def rdms(
        self, images: Sequence[Path], *, layers: Sequence[str] | None = None, progress: bool = False
    ) -> dict[str, NDArray[np.float64]]:
        """Layer → RDM."""


@dataclass(frozen=True)
class Job:
    """A network or a checkpoint to score.

    Attributes
    ----------
    name : str
        What tables call it.
    folder : Path
        What it leaves is there.
    find : callable
        Gives the weights' file, or raises.
    open : callable
        Makes a model of the weights' file, in a folder that is there.
    graph : str
        Anything that differs where the graph, its taps or its preprocessing do.
    """

    name: str
    folder: Path
    find: Callable[[], Path]
    open: Callable[[Path], HasRdms]
    graph: str


def network_job(name: str, find: Callable[[], Path], out: Path, run: Run) -> Job:
    """A network of the registry, exported with its weights to `network.onnx` and scored by that file."""
    folder = out / "networks" / name

    def open_network(weights: Path) -> OnnxModel:
        module = build(name, count_classes(name, weights))
        load_weights(module, weights)
        path = fastrdm.export_onnx(module, folder / "network.onnx", architecture=name)
        return OnnxModel(path, **run.options)

    return Job(name, folder, find, open_network, json.dumps(TAPS[name]))


def checkpoint_jobs(paths: Iterable[Path], out: Path, run: Run) -> list[Job]:
    """Checkpoints of the ResNet-20, all behind one exported graph.

    Parameters
    ----------
    paths : iterable of path
        Files of weights, or folders of a training run, whose epochs are in its `checkpoints`, and
        whose `network-*.onnx` is the graph where there is one alone.
    out : path
        The study's folder.
    run : Run

    Returns
    -------
    list of Job
        A folder's epochs in their order.

    Raises
    ------
    ValueError
        If a folder has no checkpoints, or two have the same name.
    WeightsError
        If there is no such file.
    """
    made: dict[int, Architecture] = {}

    def built(weights: Path) -> Architecture:
        n = count_classes("resnet20", weights)
        if n not in made:
            made[n] = replace(Architecture.export(partial(build, "resnet20", n)), name="resnet20")
        return made[n]

    jobs = []
    for path in paths:
        files, architecture, graph = [path], built, json.dumps(TAPS["resnet20"])
        if path.is_dir():
            files = _epochs(path)
            graphs = list(path.glob("network-*.onnx"))
            if len(graphs) == 1:
                own = Architecture.read(graphs[0])
                architecture, graph = partial(_always, own), own.fingerprint
        for file in files:
            check_file(file)

            def open_checkpoint(
                weights: Path, architecture: Callable[[Path], Architecture] = architecture
            ) -> OnnxModel:
                return architecture(weights).open(weights, **run.options)

            folder = out / "checkpoints" / file.stem
            jobs.append(Job(file.stem, folder, partial(_always, file), open_checkpoint, graph))
    names = [job.name for job in jobs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"several checkpoints are called {twice}; give them different names")
    return jobs


def count_classes(name: str, weights: Path) -> int:
    """Outputs of a network with these weights: the length of its last bias."""
    with torch.device("meta"):
        expected = build(name).state_dict()
    head = [key for key, value in expected.items() if value.shape == (1000,) and "bias" in key][-1]
    found = load_state_dict(weights).get(head)
    # Without one, loading the weights says in what they are other ones.
    return 1000 if found is None or found.ndim != 1 else len(found)


def score(job: Job, run: Run) -> NetworkScores:
    """Score every tap of a network, choose its best layer and write that one's submission.

    Parameters
    ----------
    job : Job
    run : Run

    Returns
    -------
    NetworkScores
        As `scores.json` has them, where that is from the same weights, graph, data and options and
        the submission is there. Whatever goes wrong is in its `error`.
    """
    try:
        weights = job.find()
        sha256 = hash_file(weights)
        key = {
            "weights": sha256,
            "graph": job.graph,
            "data": run.data,
            "version": fastrdm.__version__,
            "by_region": run.by_region,
            **run.options,
        }
        done = _read(job.folder / "scores.json", key)
        if done is not None:
            return done
        job.folder.mkdir(parents=True, exist_ok=True)
        model = job.open(weights)
        results: list[SubjectResult] = []
        for study in run.studies:
            rdms = model.rdms(list(study.stimuli), progress=run.progress)
            results += score_rdms(job.name, study, rdms)
        scores = NetworkScores(job.name, tuple(results), str(weights), sha256)
        if not scores.best:
            raise ValueError(f"{job.name}: no layer has a score, for all have constant conditions")
        if images := run.test_images:
            regions = algonauts.REGIONS["fmri"]
            best = scores.by_region if run.by_region else dict.fromkeys(regions, scores.best)
            rdms = model.rdms(images, layers=list(set(best.values())), progress=run.progress)
            submitted = {region: rdms[layer] for region, layer in best.items()}
            written = algonauts.write_submission(job.folder, submitted, "fmri")
            scores = replace(scores, submissions=tuple(map(str, written)))
        _write(job.folder / "scores.json", json.dumps({"key": key, "scores": scores.to_dict()}))
        return scores
    # One network that fails, for whatever reason, does not keep the others from being scored.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return NetworkScores(job.name, error=reason)


def panels(
    scores: Sequence[NetworkScores], published: Published | None, networks: Sequence[NetworkScores]
) -> list[Panel]:
    """The bars of a figure: on the test images where their brains are there, else on the other sets.

    Parameters
    ----------
    scores : sequence of NetworkScores
        What is drawn, in this order; those with an error are left out.
    published : Published, optional
        Where the baseline's score is, unless it is one of `networks`.
    networks : sequence of NetworkScores
        What has been scored.

    Returns
    -------
    list of Panel
        None where there is nothing to draw.
    """
    shown = [each for each in scores if not each.error]
    sets = shown[0].sets if shown else []
    found = []
    for study in [TEST_SET] if TEST_SET in sets else sets:
        bars = tuple(
            Bar(f"{each.name}\n{each.marked(each.best)}", *each.score(study, each.best)[:2])
            for each in shown
        )
        found.append(Panel(study, bars, *_baseline(study, published, networks)))
    return found


def _baseline(
    study: str, published: Published | None, networks: Sequence[NetworkScores]
) -> tuple[float | None, str]:
    own = next((each for each in networks if each.name == _BASELINE and not each.error), None)
    if own is not None:
        return own.score(study, own.best).percent, "AlexNet, the baseline"
    if study == TEST_SET:
        return _BASELINE_78, "AlexNet, the baseline (leaderboard)"
    if published is not None:
        layer = published.best(_BASELINE, ("92", "118"))
        if (_BASELINE, study, layer) in published.values:
            value = published.values[_BASELINE, study, layer][2]
            return value, f"AlexNet, the baseline (published, {layer})"
    return None, ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if all was scored, 1 if something was not, 2 for wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        return _replicate(arguments)
    except KeyboardInterrupt:
        print("replicate: stopped; what is done is kept", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"replicate: error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.study.replicate",
        description="Replicate the study: score every tap of every pretrained network, choose each one's best layer by "
        "its mean over the 92 and the 118 set, write its submission, draw figures 4 and 5, compare with the published "
        "table. A second call goes on where the first one stopped.",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="the challenge's data, or studies (default: $FASTRDM_DATA, ../shared/data)",
    )
    parser.add_argument("--out", required=True, metavar="OUT", help="folder for what is written")
    parser.add_argument(
        "--networks",
        nargs="+",
        metavar="NAME",
        help=f"which, with spaces or commas between (default: the study's, {', '.join(STUDY)})",
    )
    parser.add_argument(
        "--weights-dir",
        metavar="W",
        help="folder of published weights, looked in before torch's cache and their URLs",
    )
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="weights of a network instead of the published ones: a file, or a URL that ends in #sha256=HASH; "
        "NAME may be left out with one network; may be given several times",
    )
    parser.add_argument(
        "--checkpoints",
        nargs="+",
        default=[],
        metavar="PATH",
        help="checkpoints of the ResNet-20 for figure 5: files, or folders of training runs",
    )
    parser.add_argument("--offline", action="store_true", help="download nothing")
    parser.add_argument(
        "--published",
        metavar="FILE",
        help=f"table to compare with (default: {PUBLISHED} in DIR)",
    )
    parser.add_argument("--provider", default="auto", choices=("auto", *PROVIDERS))
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="images at once")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def _replicate(arguments: argparse.Namespace) -> int:
    for package, extra in (("onnxruntime", "onnx"), ("matplotlib", "plot"), ("rich", "onnx")):
        require(package, extra, "to replicate the study")
    if arguments.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, not {arguments.batch_size}")
    root = Path(arguments.data) if arguments.data else find_data()
    if root is None:
        raise ValueError("no data: pass --data DIR or set FASTRDM_DATA")
    show = not arguments.quiet and sys.stderr.isatty()
    run = Run(
        open_studies(root, modality="fmri"),
        arguments.provider,
        arguments.precision,
        arguments.batch_size,
        show,
    )
    table = arguments.published or root / PUBLISHED
    published = Published.read(table) if arguments.published or Path(table).is_file() else None
    out = Path(arguments.out)
    networks = _network_jobs(arguments, out, run)
    checkpoints = checkpoint_jobs(map(Path, arguments.checkpoints), out, run)
    out.mkdir(parents=True, exist_ok=True)

    say: Callable[[str], None] = partial(print, file=sys.stderr, flush=True)
    if arguments.quiet:
        say = _silent
    scores = _score_all(networks, run, say)
    trained = _score_all(checkpoints, run, say)
    scores.sort(key=lambda each: (bool(each.error), -each.mean if not each.error else 0.0))
    sets = [study.name for study in run.studies if study.name != TEST_SET]
    table_rows = rows([*scores, *trained], published, sets)
    _write(out / "table.csv", _csv(table_rows))
    notice = _notice(run.studies, published)
    short = [row for row in table_rows if row["best"] or row["note"]]
    _write(out / "table.md", f"{notice}\n\n{markdown(short, _HEADER)}")
    _print(short, notice)
    for name, shown in (("figure4.png", scores), ("figure5.png", trained)):
        if drawn := panels(shown, published, scores):
            say(f"wrote {draw_bars(drawn, out / name, notice)}")
        else:
            (out / name).unlink(missing_ok=True)
            reason = "no network could be scored" if name == "figure4.png" else "no --checkpoints"
            say(f"{name} is not drawn: {reason}")
    say(f"wrote {out / 'table.csv'} and table.md")
    failed = [each.name for each in (*scores, *trained) if each.error]
    if failed:
        print(
            f"replicate: {len(failed)} of {len(scores) + len(trained)} not scored: {', '.join(failed)}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _network_jobs(arguments: argparse.Namespace, out: Path, run: Run) -> list[Job]:
    given = [name for part in arguments.networks or () for name in part.split(",") if name]
    check_names(given)
    names = given or [name for name in STUDY if name != "resnet20" or not arguments.checkpoints]
    own = dict(_own_weights(each, given) for each in arguments.weights)
    if given and (stray := [name for name in own if name not in given]):
        raise ValueError(f"--weights {stray[0]}=… is for a network that --networks does not have")
    if arguments.weights_dir is not None and not Path(arguments.weights_dir).is_dir():
        raise NotADirectoryError(f"--weights-dir {arguments.weights_dir} is no folder")
    published = partial(
        pretrained, weights_dir=arguments.weights_dir, download=not arguments.offline
    )
    return [
        network_job(name, own.get(name) or partial(published, name), out, run)
        for name in dict.fromkeys([*names, *own])
    ]


def _own_weights(text: str, networks: Sequence[str]) -> tuple[str, Callable[[], Path]]:
    """What `[NAME=]FILE` says: a network, and what gives its weights."""
    name, equals, source = text.partition("=")
    # A URL has an equals sign of its own, before its checksum.
    if not equals or (name not in NETWORKS and ("://" in text or Path(text).is_file())):
        if len(networks) != 1:
            raise ValueError(
                f"--weights {text} does not say whose they are; write NAME={text}, or one network in --networks"
            )
        name, source = networks[0], text
    check_names([name])
    if "://" in source:
        return name, partial(fetch, source)
    check_file(source)
    return name, partial(_always, Path(source))


def _score_all(jobs: Sequence[Job], run: Run, say: Callable[[str], None]) -> list[NetworkScores]:
    scores = []
    for i, job in enumerate(jobs, 1):
        start = time.perf_counter()
        say(f"{job.name} ({i} of {len(jobs)})")
        scores.append(score(job, run))
        done, seconds = scores[-1], time.perf_counter() - start
        say(
            f"  not scored: {done.error}"
            if done.error
            else f"  best layer {done.best}, {done.mean:.2f} % of the noise ceiling, {seconds:.0f} s"
        )
        for remark in done.remarks:
            say(f"  ‡ {remark}")
    return scores


def _epochs(folder: Path) -> list[Path]:
    """Checkpoints in a training run's folder, by the number that their names end in."""
    inner = folder / "checkpoints"
    files = {
        int(number[1]): path
        for path in sorted((inner if inner.is_dir() else folder).iterdir())
        if is_checkpoint(path) and not is_onnx(path) and (number := re.search(r"(\d+)$", path.stem))
    }
    if not files:
        raise ValueError(
            f"{folder} has no checkpoints whose names end in a number, as epoch_001.pth"
        )
    return [files[number] for number in sorted(files)]


def _always(value: Any, *_: Any) -> Any:
    return value


def _silent(_: str) -> None:
    pass


def _notice(studies: Sequence[Study], published: Published | None) -> str:
    """What whoever sees the figures has to know of them."""
    names = [study.name for study in studies]
    chosen_by = [name for name in names if name != TEST_SET] or names
    parts = [f"Best layers by their mean over: {', '.join(chosen_by)}."]
    if synthetic := [study.name for study in studies if study.synthetic]:
        parts.append(f"SYNTHETIC DATA ({', '.join(synthetic)}): simulated subjects, no brains.")
    elif TEST_SET not in names:
        parts.append(f"The brains of the {TEST_SET} test images are not there.")
    if published is None:
        parts.append("No published table to compare with.")
    return "\n".join(parts)


def _read(path: Path, key: Mapping[str, Any]) -> NetworkScores | None:
    """Scores of the same key; None where there are none, or their submission is gone."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(path.read_text("utf-8"))
        if content["key"] == key:
            scores = NetworkScores.from_dict(content["scores"])
            if all(Path(file).is_file() for file in scores.submissions):
                return scores
    return None


def _write(path: Path, text: str) -> None:
    with new_file(path) as file:
        file.write(text.encode())


def _csv(table: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def _print(table: Sequence[Mapping[str, Any]], notice: str) -> None:
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title="percent of noise ceiling", caption=notice or None, title_justify="left")
    for key, heading in _HEADER.items():
        if key != "note":
            text = key in {"network", "image_set", "layer"}
            drawn.add_column(heading, justify="left" if text else "right", no_wrap=text)
    for row in table:
        if not row["note"]:
            drawn.add_row(*(cell(row[key], key) for key in _HEADER if key != "note"))
    console = Console(width=None if sys.stdout.isatty() else 200)
    if drawn.row_count:
        console.print(drawn)
    for row in table:
        if row["note"]:
            console.print(
                f"{row['network']}: not scored: {row['note']}", highlight=False, soft_wrap=True
            )


if __name__ == "__main__":
    sys.exit(main())
