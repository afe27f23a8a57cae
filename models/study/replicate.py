"""The replication study: pretrained networks → best layers, submissions, figures 4 and 5, and the published table.

    python -m models.study.replicate --data DIR --out OUT [--weights-dir W] [--networks A,B] [--checkpoints RUN]

OUT has `table.csv`, `table.md` and `figure4.png`, and with checkpoints `figure5.png`. OUT/networks/NAME has
`network.onnx`, the network as it was scored, and the submission of the best layer; OUT/checkpoints/NAME has the
submission of a checkpoint. OUT/scores.db is the store that a second call continues.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from fastrdm._base import check_integer, new_file, require
from fastrdm.networks import check_file
from fastrdm.runtimes import PRECISIONS, PROVIDERS
from fastrdm.studies import Study, find_data, open_studies, synthetic_notice
from models.networks import NETWORKS, check_names, fetch, pretrained, url_of
from models.study.candidates import (
    Candidate,
    StudyRun,
    checkpoint_candidates,
    network_candidate,
    score,
)
from models.study.comparison import Published, rows
from models.study.figures import draw_bars, panels
from models.study.network_scores import TEST_STUDY, NetworkScores
from models.study.tables import csv_table, print_scores, scores_markdown

STUDY = (*(name for name in NETWORKS if url_of(name)), "resnet20")
"""The networks of the study: those with published weights, and the paper's own."""

Say = Callable[[str], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if all was scored, 1 if not, 2 for wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        return _replicate(arguments)
    except KeyboardInterrupt:
        print("replicate: stopped; finished scores are kept", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"replicate: error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.study.replicate",
        description="Replicate the study: score all layers of the pretrained networks, choose the best layer of each "
        "network by its mean over the studies 92 and 118, write its submission, draw figures 4 and 5, and compare with "
        "the published table. A second call continues where the first one stopped.",
    )
    add = parser.add_argument
    data = "the challenge's data, or studies (default: $FASTRDM_DATA, ../shared/data)"
    add("--data", metavar="DIR", help=data)
    add("--out", required=True, metavar="OUT", help="output folder")
    names = f"networks, separated by spaces or commas (default: the study's, {', '.join(STUDY)})"
    add("--networks", nargs="+", metavar="NAME", help=names)
    folder = "folder of published weights, searched before torch's cache and the URLs"
    add("--weights-dir", metavar="W", help=folder)
    weights = (
        "other weights for a network: a file, or a URL that ends in #sha256=HASH; NAME is optional with one network; "
        "repeatable"
    )
    add("--weights", action="append", default=[], metavar="[NAME=]FILE", help=weights)
    trained = "checkpoints of the ResNet-20 for figure 5: files, or folders of training runs"
    add("--checkpoints", nargs="+", default=[], metavar="PATH", help=trained)
    add("--offline", action="store_true", help="download nothing")
    add("--published", metavar="FILE", help=f"published table (default: {Published.PATH} in DIR)")
    add("--provider", default="auto", choices=("auto", *PROVIDERS))
    add("--precision", default="fp32", choices=PRECISIONS)
    add("--batch-size", type=int, default=32, metavar="N", help="images per forward pass")
    add("--quiet", action="store_true", help="no progress on stderr")
    return parser


def _replicate(arguments: argparse.Namespace) -> int:
    for package, extra in (("onnxruntime", "onnx"), ("matplotlib", "plot"), ("rich", "onnx")):
        require(package, extra, "to replicate the study")
    check_integer(arguments.batch_size, "--batch-size", 1)
    root = Path(arguments.data) if arguments.data else find_data()
    if root is None:
        raise ValueError("no data: use --data DIR or set FASTRDM_DATA")
    out = Path(arguments.out)
    studies, store = open_studies(root, modality="fmri"), out / "scores.db"
    options = {name: vars(arguments)[name] for name in ("provider", "precision", "batch_size")}
    progress = not arguments.quiet and sys.stderr.isatty()
    run = StudyRun(studies, store, options, progress)
    published = Published.find(root, arguments.published)
    pretrained_candidates = _networks(arguments, out)
    trained = checkpoint_candidates(map(Path, arguments.checkpoints), out)
    out.mkdir(parents=True, exist_ok=True)

    say: Say = (lambda _: None) if arguments.quiet else partial(print, file=sys.stderr, flush=True)
    networks = _score_all(pretrained_candidates, run, say)
    checkpoints = _score_all(trained, run, say)
    networks.sort(key=lambda each: (bool(each.error), -each.mean if not each.error else 0.0))
    _write_results(out, networks, checkpoints, run.studies, published, say)
    scores = [*networks, *checkpoints]
    failed = [each.name for each in scores if each.error]
    if failed:
        failures = f"{len(failed)} of {len(scores)} not scored: {', '.join(failed)}"
        print(f"replicate: {failures}", file=sys.stderr)
    return 1 if failed else 0


def _networks(arguments: argparse.Namespace, out: Path) -> list[Candidate]:
    chosen = [name for part in arguments.networks or () for name in part.split(",") if name]
    check_names(chosen)
    names = chosen or [name for name in STUDY if name != "resnet20" or not arguments.checkpoints]
    weights = dict(_parse_weights(text, chosen) for text in arguments.weights)
    if chosen and (unused := [name for name in weights if name not in chosen]):
        raise ValueError(f"--weights {unused[0]}=… is for a network that is not in --networks")
    if arguments.weights_dir is not None and not Path(arguments.weights_dir).is_dir():
        raise NotADirectoryError(f"--weights-dir {arguments.weights_dir} is not a folder")
    options = {"weights_dir": arguments.weights_dir, "download": not arguments.offline}
    return [
        network_candidate(name, weights.get(name) or partial(pretrained, name, **options), out)
        for name in dict.fromkeys([*names, *weights])
    ]


def _parse_weights(text: str, networks: Sequence[str]) -> tuple[str, Callable[[], Path]]:
    """Parse `[NAME=]FILE` into a network and a function that returns its weights' file."""
    name, equals, source = text.partition("=")
    # A URL has an equals sign before its checksum.
    if not equals or (name not in NETWORKS and ("://" in text or Path(text).is_file())):
        if len(networks) != 1:
            raise ValueError(
                f"--weights {text} does not name its network; use NAME={text}, or one network in --networks"
            )
        name, source = networks[0], text
    check_names([name])
    if "://" in source:
        return name, partial(fetch, source)
    check_file(source)
    return name, lambda: Path(source)


def _score_all(candidates: Sequence[Candidate], run: StudyRun, say: Say) -> list[NetworkScores]:
    scores = []
    for i, candidate in enumerate(candidates, 1):
        start = time.perf_counter()
        say(f"{candidate.name} ({i} of {len(candidates)})")
        done = score(candidate, run)
        scores.append(done)
        seconds = time.perf_counter() - start
        best = f"best layer {done.best}, {done.mean:.2f} % of the noise ceiling, {seconds:.0f} s"
        say(f"  not scored: {done.error}" if done.error else f"  {best}")
        for remark in done.remarks:
            say(f"  ‡ {remark}")
    return scores


def _write_results(
    out: Path,
    networks: Sequence[NetworkScores],
    checkpoints: Sequence[NetworkScores],
    studies: Sequence[Study],
    published: Published | None,
    say: Say,
) -> None:
    """Write and print the tables, and draw the figures."""
    chosen_by = [study.name for study in studies if study.name != TEST_STUDY]
    table = rows([*networks, *checkpoints], published, chosen_by)
    short = [row for row in table if row["best"] or row["note"]]
    notice = _notice(studies, published)
    texts = {"table.csv": csv_table(table), "table.md": f"{notice}\n\n{scores_markdown(short)}"}
    for name, text in texts.items():
        with new_file(out / name) as file:
            file.write(text.encode())
    print_scores(short, notice)
    for name, scores in (("figure4.png", networks), ("figure5.png", checkpoints)):
        if drawn := panels(scores, published, networks):
            say(f"wrote {draw_bars(drawn, out / name, notice)}")
        else:
            (out / name).unlink(missing_ok=True)
            reason = "no network could be scored" if name == "figure4.png" else "no --checkpoints"
            say(f"{name} was not drawn: {reason}")
    say(f"wrote {out / 'table.csv'} and table.md")


def _notice(studies: Sequence[Study], published: Published | None) -> str:
    """What readers of the figures need to know."""
    names = [study.name for study in studies]
    chosen_by = [name for name in names if name != TEST_STUDY] or names
    parts = [f"Best layers by their mean over: {', '.join(chosen_by)}."]
    if notice := synthetic_notice(studies):
        parts.append(f"{notice}.")
    elif TEST_STUDY not in names:
        parts.append(f"Brain data of the {TEST_STUDY} test images is unavailable.")
    if published is None:
        parts.append("No published table to compare with.")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
