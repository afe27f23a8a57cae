"""Arguments in, calls out."""

import argparse
import contextlib
import csv
import dataclasses
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import fastrdm
from fastrdm import _arguments, algonauts, scoring, sweep_cli
from fastrdm._extras import require
from fastrdm.few import score_checkpoints
from fastrdm.layers import Layer, Network, grouped, nearest, pattern
from fastrdm.manifest import LeftOut
from fastrdm.study import Study, find_data, open_studies

# Of 39 draws, the smallest and the largest are the ends of a 95 % interval.
_FEWEST_DRAWS = 39
_SIGNIFICANT = 0.05


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 for a failure told in one line, or 2 for wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader of a pipe has what it wanted; the interpreter must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("fastrdm: stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"fastrdm: error: {error}", file=sys.stderr)
        return 1


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: IO[str] | None = None,
    line: str | None = None,
) -> None:
    print(f"fastrdm: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastrdm", description="Compare neural networks with the visual brain."
    )
    parser.add_argument("--version", action="version", version=f"fastrdm {fastrdm.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    score = commands.add_parser(
        "score",
        help="score every layer of networks against brain data",
        description="Score every layer of each checkpoint against every region of each study; name the best layer.",
    )
    score.add_argument(
        "weights",
        nargs="+",
        metavar="WEIGHTS",
        help="weights or .onnx files, folders or globs of them, or .txt files of paths",
    )
    score.add_argument(
        "--arch",
        action="append",
        default=[],
        metavar="ARCH",
        help="what the weights are for: MODULE:CALLABLE that makes the torch module, e.g. torchvision.models:resnet18, "
        "or a FILE.onnx exported with any weights; once for all, or once for each WEIGHTS",
    )
    score.add_argument(
        "--data",
        metavar="DIR",
        help="challenge data or studies (default: $FASTRDM_DATA, ../shared/data)",
    )
    _arguments.add_studies(score)
    _arguments.add_taps(score)
    score.add_argument(
        "--submit", metavar="DIR", help="write the best layer's submission for the test images"
    )
    score.add_argument("--figure", metavar="FILE", help="draw the scores (.png, .pdf, .svg)")
    score.add_argument("--csv", metavar="FILE", help="write the results as CSV too")
    score.add_argument("--json", action="store_true", help="print JSON lines instead of the table")
    _arguments.add_running(score)
    _add_bootstrap(score)
    score.add_argument("--quiet", action="store_true", help="no progress on stderr")
    score.set_defaults(run=_score)

    sweep_cli.add_commands(commands)

    evaluate = commands.add_parser(
        "evaluate",
        help="score an Algonauts 2019 submission as the challenge does",
        description="Score an Algonauts 2019 submission (.mat, .npy, .npz) against a target file.",
    )
    evaluate.add_argument("submission", metavar="SUBMISSION")
    evaluate.add_argument("target", metavar="TARGET")
    evaluate.add_argument(
        "--set",
        choices=("92", "118", "78", "none", "infer"),
        default="infer",
        help="whose published ceilings to use; none computes them from the subjects (default: by number of conditions)",
    )
    _add_bootstrap(evaluate)
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.set_defaults(run=_evaluate)

    export = commands.add_parser(
        "export", help="write a network with weights as an ONNX file with tapped layers"
    )
    export.add_argument("weights", metavar="WEIGHTS", help=".pth, .pt or .safetensors")
    export.add_argument("output", metavar="FILE.onnx")
    export.add_argument("--arch", required=True, metavar="MODULE:CALLABLE")
    _arguments.add_taps(export)
    export.set_defaults(run=_export)

    layers = commands.add_parser(
        "layers",
        help="list what could be tapped in a network, with shapes and sizes",
        description="List the tensors of an ONNX file, or the modules of a torch network, that could be tapped.",
    )
    network = layers.add_mutually_exclusive_group(required=True)
    network.add_argument("file", nargs="?", metavar="FILE.onnx")
    network.add_argument("--arch", metavar="MODULE:CALLABLE", help="a torch network instead")
    layers.add_argument("--match", metavar="PATTERN", help="only those that a pattern matches")
    layers.add_argument("--json", action="store_true", help="print JSON lines instead of the table")
    layers.set_defaults(run=_layers)

    sample = commands.add_parser(
        "sample", help="write a synthetic sample study, to try fastrdm without data"
    )
    sample.add_argument("folder", metavar="DIR")
    sample.set_defaults(run=_sample)

    info = commands.add_parser(
        "info", help="say what there is: processors, memory, kernels, versions, providers"
    )
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=_info)

    kernels = commands.add_parser("kernels", help="say which kernels are in force")
    kernels.set_defaults(run=_kernels)
    return parser


def _add_bootstrap(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bootstrap",
        type=_draws,
        default=1000,
        metavar="N",
        help="draws of subjects for 95 %% intervals; 0 for neither intervals nor significance (default: 1000)",
    )
    parser.add_argument(
        "--seed", type=_seed, default=0, metavar="S", help="of draws and sign flips (default: 0)"
    )


def _draws(text: str) -> int:
    value = int(text)
    if value != 0 and value < _FEWEST_DRAWS:
        raise argparse.ArgumentTypeError(
            f"{value} is neither 0 nor the {_FEWEST_DRAWS} or more that a 95 % interval needs"
        )
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"{value} is not from 0 to 2**64 - 1")
    return value


def _data(folder: str | None) -> Path:
    root = Path(folder) if folder else find_data()
    if root is None:
        raise ValueError(
            "no data: pass --data DIR or set FASTRDM_DATA; `fastrdm sample DIR` writes a study to try"
        )
    return root


def _score(arguments: argparse.Namespace) -> int:
    studies = open_studies(_data(arguments.data), arguments.sets, arguments.modality)
    show = not arguments.quiet and sys.stderr.isatty()
    if not arguments.json:
        require("rich", "onnx", "to print tables")
    if arguments.json and _notice(studies):
        print(_notice(studies), file=sys.stderr)
    failed = total = 0
    results: list[scoring.Result] = []
    with contextlib.ExitStack() as stack:
        write_csv = _csv_writer(stack, arguments.csv)
        for scored in score_checkpoints(
            arguments.weights,
            arguments.arch,
            studies,
            taps=arguments.taps,
            provider=arguments.provider,
            precision=arguments.precision,
            provider_options=dict(arguments.provider_option),
            batch_size=arguments.batch_size,
            allow_inconsistent=arguments.allow_inconsistent,
            submit=arguments.submit,
            progress=show,
            n_draws=arguments.bootstrap,
            seed=arguments.seed,
            on_start=None if arguments.quiet else _announce,
            on_left_out=_tell_left_out_as_json if arguments.json else _tell_left_out,
        ):
            total += 1
            if scored.error:
                failed += 1
                print(f"fastrdm: error: {scored.error}", file=sys.stderr)
                continue
            results += scored.results
            write_csv(scored.results)
            if arguments.json:
                for result in scored.results:
                    print(json.dumps(_plain(result)), flush=True)
            else:
                _print_table(scored.results, studies)
            for path in scored.submissions:
                print(f"wrote {path}", file=sys.stderr)
    if arguments.figure and results:
        from fastrdm.plot import plot_scores

        print(f"wrote {plot_scores(results, arguments.figure, _notice(studies))}", file=sys.stderr)
    if failed:
        print(
            f"fastrdm: {failed} of {total} checkpoints could not be scored",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _announce(checkpoint: str) -> None:
    print(f"scoring {checkpoint}", file=sys.stderr, flush=True)


def _tell_left_out(left_out: LeftOut) -> None:
    print(f"fastrdm: warning: {left_out.message}", file=sys.stderr)


def _tell_left_out_as_json(left_out: LeftOut) -> None:
    _tell_left_out(left_out)
    print(json.dumps({"event": "left_out", **dataclasses.asdict(left_out)}), flush=True)


def _plain(result: scoring.Result) -> dict[str, Any]:
    """A result for JSON, which has no NaN."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in dataclasses.asdict(result).items()
    }


def _csv_writer(stack: contextlib.ExitStack, path: str | None) -> Any:
    if path is None:
        return lambda results: None
    file: IO[str] = stack.enter_context(Path(path).open("w", newline="", encoding="utf-8"))  # noqa: SIM115
    writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(scoring.Result)])
    writer.writeheader()

    def write(results: Sequence[scoring.Result]) -> None:
        writer.writerows(dataclasses.asdict(result) for result in results)
        file.flush()

    return write


def _notice(studies: Sequence[Study]) -> str:
    synthetic = [study.name for study in studies if study.synthetic]
    return (
        f"SYNTHETIC DATA ({', '.join(synthetic)}): simulated subjects, no brains"
        if synthetic
        else ""
    )


def _print_table(results: Sequence[scoring.Result], studies: Sequence[Study]) -> None:
    """A row a layer, a column a region of a study, and the score that the best layer is chosen by."""
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys((r.set, r.region) for r in results))
    cells = {(r.layer, r.set, r.region): r for r in results}
    scores, best = scoring.layer_scores(results), scoring.best_layers(results)
    ceilings = {(r.set, r.region): r.ceiling for r in results}
    squared = {
        (study.name, region)
        for study in studies
        for region, target in study.targets.items()
        if target.protocol.squared
    }
    mean, sign = (", mean ρ", "; ‡ mean ρ below 0, opposite to the brain") if squared else ("", "")
    title = f"percent of noise ceiling ± SD over subjects{mean}{sign}"
    if not all(math.isnan(r.low) for r in results):
        title = (
            f"percent of noise ceiling [95 % interval over subjects]{mean};"
            f" † ρ above 0, p < 0.05 corrected{sign}"
        )
    table = Table(
        title=title,
        caption=_notice(studies) or None,
        show_footer=True,
        title_justify="left",
    )
    table.add_column("layer", footer="ceiling")
    for study, region in columns:
        table.add_column(
            f"{study}\n{region.upper()}",
            footer=f"{ceilings[study, region]:.4f}",
            justify="right",
            no_wrap=True,
        )
    for modality in scores:
        table.add_column(
            f"score{f', {modality}' if len(scores) > 1 else ''}\nmean of sets",
            justify="right",
            no_wrap=True,
        )
    for layer in dict.fromkeys(r.layer for r in results):
        winner = layer in best.values()
        table.add_row(
            layer,
            *(_cell(cells[layer, *column], column in squared) for column in columns),
            *(f"{scores[m][layer]:.2f}{' *' if best.get(m) == layer else '  '}" for m in scores),
            style="bold" if winner else None,
        )
    # A pipe or a file has no width to keep to.
    console = Console(width=None if sys.stdout.isatty() else 300)
    # Not wrapped: a path is for copying.
    console.print(results[0].checkpoint, highlight=False, soft_wrap=True, style="bold")
    console.print(table)
    for line in _conclusions(results, studies, scores, best):
        console.print(line, highlight=False)


def _cell(result: scoring.Result, squared: bool) -> str:
    sign = f" {result.mean_rho:+.3f}{'‡' if result.mean_rho < 0 else ' '}" if squared else ""
    if math.isnan(result.low):
        return f"{result.percent_nc:.2f} ± {100 * result.std / result.ceiling:.2f}{sign}"
    mark = "†" if result.p_corrected < _SIGNIFICANT else " "
    return f"{result.percent_nc:.2f} [{result.low:.1f}, {result.high:.1f}]{mark}{sign}"


def _conclusions(
    results: Sequence[scoring.Result],
    studies: Sequence[Study],
    scores: dict[str, dict[str, float]],
    best: dict[str, str],
) -> Iterator[str]:
    for modality, layer in best.items():
        name = f" ({modality})" if len(scores) > 1 else ""
        yield f"* best layer{name}: {layer}, {scores[modality][layer]:.2f} % of the noise ceiling"
    for remark in scoring.sign_remarks(results):
        yield f"‡ {remark}"
    for study in studies:
        for region, layer in study.truth.items():
            own = [r for r in results if (r.set, r.region) == (study.name, region)]
            if own and Path(own[0].checkpoint).name == study.truth_network:
                found = max(own, key=lambda r: -math.inf if math.isnan(r.value) else r.value).layer
                verdict = "found" if found == layer else f"NOT found: {found} is best"
                yield f"  known answer: {region.upper()} was simulated from {layer}: {verdict}"


def _evaluate(arguments: argparse.Namespace) -> int:
    evaluation = algonauts.evaluate(arguments.submission, arguments.target, arguments.set)
    uncertainty = _uncertainty(evaluation, arguments.bootstrap, arguments.seed)
    if arguments.json:
        record = evaluation.to_dict()
        for name, facts in uncertainty.items():
            record[name] |= {**facts, "draws": arguments.bootstrap, "seed": arguments.seed}
        print(json.dumps(record))
        return 0
    source = (
        f"published for the {evaluation.set} images"
        if evaluation.set
        else "computed from the subjects"
    )
    print(f"noise ceilings {source}")
    more = f"{'95 % interval':>18}{'p, sign flips':>15}{'corrected':>12}" if uncertainty else ""
    print(
        f"{'':7}{'R²':>8}{'± SD':>9}{'mean ρ':>10}{'ceiling':>9}{'% of ceiling':>14}{'p':>12}{more}"
    )
    for name, region in evaluation.regions.items():
        line = (
            f"{name.upper():7}{region.r2:8.4f}{region.std:9.4f}{region.mean_rho:9.4f}"
            f"{'‡' if region.mean_rho < 0 else ' '}{region.ceiling:9.4f}"
            f"{region.percent_nc:14.4f}{region.p:12.4e}"
        )
        if name in uncertainty:
            facts = uncertainty[name]
            low, high = facts["interval"]
            interval = f"[{low:.2f}, {high:.2f}]"
            line += f"{interval:>18}{facts['p_sign_flip']:15.4e}{facts['p_corrected']:12.4e}"
        print(line)
    score = evaluation.score
    print(f"{'score':7}{score.r2:8.4f}{'':28}{score.percent_nc:14.4f}")
    if any(region.mean_rho < 0 for region in evaluation.regions.values()):
        print(
            "‡ mean ρ below 0: the submission is opposite to the brain, which the score does not show"
        )
    if uncertainty:
        print(
            "p is the challenge's own, of ρ², which is never below 0; sign flips test over subjects that ρ is above 0,"
            "\ncorrected for both regions. The interval, of % of ceiling, is of subjects resampled"
            f" {arguments.bootstrap} times, seed {arguments.seed}."
        )
    return 0


def _uncertainty(
    evaluation: algonauts.Evaluation, n_draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Interval of the percentage, and sign-flip tests, by region; none of one subject or without draws."""
    from fastrdm.inference import max_statistic, subject_intervals

    regions = evaluation.regions
    rho = [[region.rho] for region in regions.values()]
    if n_draws == 0 or any(len(one[0]) < 2 for one in rho):
        return {}
    p, corrected = (values.tolist() for values in max_statistic(rho, seed=seed))
    return {
        name: {
            "interval": [
                100 * bound / region.ceiling
                for bound in subject_intervals(
                    [[r**2 for r in region.rho]], n_draws=n_draws, seed=seed
                )[0].tolist()
            ],
            "p_sign_flip": p[i],
            "p_corrected": corrected[i],
        }
        for i, (name, region) in enumerate(regions.items())
    }


def _export(arguments: argparse.Namespace) -> int:
    from fastrdm.checkpoints import import_arch
    from fastrdm.weights import load_weights

    module = import_arch(arguments.arch)()
    load_weights(module, arguments.weights)
    path = fastrdm.export_onnx(
        module, arguments.output, arguments.taps, architecture=arguments.arch
    )
    print(f"wrote {path}")
    return 0


def _layers(arguments: argparse.Namespace) -> int:
    from fastrdm.foreign_run import inspect_file

    network, marks = (
        _torch_layers(arguments.arch) if arguments.arch else inspect_file(arguments.file)
    )
    wanted = arguments.match or "**"
    expression = pattern(wanted, network.kind)
    matching = [layer for name, layer in network.layers.items() if expression.fullmatch(name)]
    if not matching:
        raise ValueError(
            f"{network.name} has no {network.kind} that matches {wanted!r}; "
            f"nearest: {nearest(wanted, network.layers)}"
        )
    listed = [layer for layer in matching if not layer.problem]
    if arguments.json:
        for layer in listed:
            print(json.dumps(_layer_record(layer) | {"tap": marks.get(layer.name)}))
        return 0
    rows = [("", network.kind, "operator", "shape", "channels", "MiB/100", "tapped as")]
    for layer in listed:
        mark = marks.get(layer.name, "")
        part = f"[{layer.part}]" if layer.part else ""
        shape = " × ".join(map(str, layer.shape))
        sizes = (str(layer.channels), f"{layer.mib:.1f}")
        rows.append(("*" * bool(mark), layer.name, layer.operator + part, shape, *sizes, mark))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *texts, channels, size, mark in rows:
        cells = [text.ljust(width) for text, width in zip(texts, widths, strict=False)]
        print("  ".join((*cells, channels.rjust(widths[4]), size.rjust(widths[5]), mark)).rstrip())
    print(
        f"{len(listed)} {network.kind}s of {network.name} at {network.size[0]} × {network.size[1]} "
        "pixels: shapes of one image, MiB of 100 images in float32"
    )
    if problems := {layer.name: layer.problem for layer in matching if layer.problem}:
        print(f"{len(problems)} more cannot be tapped ({grouped(problems)})")
    return 0


def _layer_record(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "operator": layer.operator,
        "part": layer.part,
        "shape": layer.shape,
        "channels": layer.channels,
        "mib_per_100": layer.mib,
    }


def _torch_layers(arch: str) -> tuple[Network, dict[str, str]]:
    """A network of torch, and what its layers are called without --taps."""
    from fastrdm.checkpoints import import_arch
    from fastrdm.export import choose_taps, inspect_module
    from fastrdm.stimuli import Preprocessing

    module = import_arch(arch)()
    preprocessing = getattr(module, "preprocessing", None) or Preprocessing()
    network = inspect_module(module, preprocessing.size)
    marks: dict[str, str] = {}
    for name, choice in choose_taps(module, network).items():
        marks[choice.layer.name] = ", ".join(filter(None, (marks.get(choice.layer.name), name)))
    return network, marks


def _sample(arguments: argparse.Namespace) -> int:
    from fastrdm.sample import write_sample

    folder = write_sample(arguments.folder)
    print(
        f"wrote {folder}: a SYNTHETIC study, simulated subjects and no brains; its README.txt says more"
    )
    print(f"try: fastrdm score {folder / 'network.onnx'} --data {folder}")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    info = fastrdm.info()
    if arguments.json:
        print(json.dumps(dataclasses.asdict(info)))
        return 0
    processor, memory = info.processor, info.memory
    quota = f" ({processor.quota:g} by quota)" if processor.quota else ""
    instructions = ", ".join(processor.instructions) or "no instruction sets known"
    limit = f", limit {_gib(memory.limit)}" if memory.limit else ""
    facts = [
        ("processor", f"{processor.model}, {processor.n_cores} cores{quota}, {instructions}"),
        *(("device", device) for device in info.devices),
        ("memory", f"{_gib(memory.total)}, available {_gib(memory.available)}{limit}"),
        ("kernels", _describe_kernels(info.kernels).removeprefix("kernels ")),
        ("versions", ", ".join(f"{name} {number}" for name, number in info.versions.items())),
        ("data", info.data or "none found; set FASTRDM_DATA"),
        ("stimuli", f"cached in {info.cache}"),
    ]
    _print_rows([], facts)
    print()
    states = [
        (
            f"{state.provider}{' *' if state.provider == info.auto else ''}",
            state.state,
            " ".join(state.precisions),
            state.detail,
        )
        for state in info.providers
    ]
    _print_rows(["provider", "state", "precisions", ""], states)
    print(f"* what --provider auto takes: {info.auto or 'nothing, as no network can run'}")
    return 0


def _gib(n_bytes: int | None) -> str:
    return "unknown" if n_bytes is None else f"{n_bytes / 2**30:.1f} GiB"


def _print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table, by rich where it is installed."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        lines = [*([header] if header else []), *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print("  ".join(cells).rstrip())
        return
    table = Table(*header, show_header=bool(header), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table, highlight=False)


def _kernels(arguments: argparse.Namespace) -> int:
    print(_describe_kernels(fastrdm.kernels()))
    return 0


def _describe_kernels(info: fastrdm.KernelInfo) -> str:
    isas = ", ".join(info.available_isas)
    return f"kernels {info.name}, instruction set {info.isa} (of {isas}), {info.n_threads} threads"
