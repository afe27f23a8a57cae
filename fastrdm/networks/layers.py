"""Layers of a network, and taps that choose some of them by names, patterns and tokens."""

import json
import math
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from fastrdm._base import list_names, nearest

Taps: TypeAlias = Mapping[str, str] | Sequence[str]

INPUT = "images"
"""Name of a network's input in its ONNX file; no layer can have it."""

INNER_SHAPES = "inner shapes may be fixed for one image; try batch_size=1 (--batch-size 1)"
"""Hint for networks that run on one image but not on several."""

_SHOWN = 3
_TOKENS = re.compile(r"flatten|cls|mean(?:\[(\d+):\])?")
# The number of a run in the name of a layer.
_RUN = re.compile(r"#\d+$")
_WILD = re.compile(r"\*\*|\*|\?|\[!?+\]?+[^\]]*\]")
# Separators at which "*" stops, by the kind of layer.
_SEPARATORS = {"module": ".", "tensor": "/"}
# Parameters that precede the patch tokens, by their names in timm, transformers, torchvision, open_clip and DINOv2.
_PREFIXED = {
    "cls_token",
    "class_token",
    "class_embedding",
    "dist_token",
    "distillation_token",
    "reg_token",
    "register_tokens",
}


@dataclass(frozen=True)
class Layer:
    """A module of a torch network, or a tensor of an ONNX graph.

    `operator` is the class of the module, or the operator that computes the tensor; `shape` is that of the activations
    for one image; `part` is the key or index of the tensor if a module has several outputs, else empty; `problem` is
    the reason why the layer cannot be tapped, as the rest of a sentence, or empty.

    `run` is the number, from 0, of one run of a module that runs several times, whose name then ends in "#" and this
    number; `axis` is that of the batch, 0 or 1. `tensor` is a number that layers with the same values share,
    `is_trivial` whether a module returns its input unchanged or has none, and `is_overwritten` whether a later in-place
    operation changes the values.
    """

    name: str
    operator: str
    shape: tuple[int, ...] = ()
    part: str = ""
    problem: str = ""
    run: int | None = None
    axis: int = 0
    tensor: int | None = None
    is_trivial: bool = False
    is_overwritten: bool = False

    @property
    def path(self) -> str:
        """Path of the module, without the number of the run."""
        return self.name if self.run is None else self.name.rpartition("#")[0]

    def measured(self, *runs: tuple[tuple[int, ...], int]) -> "Layer":
        """Return the layer with the shape for one image, the axis of the batch, and the problem of an output.

        `runs` are the output's shapes, and the numbers of images of these runs. The batch is the first axis in all of
        them, or else the second one of three or more, as in (tokens, batch, channels).
        """
        for axis in (0, 1):
            if all(len(s) > axis + 1 and s[axis] == n and n > axis for s, n in runs):
                shape, _ = runs[0]
                return replace(self, shape=shape[:axis] + shape[axis + 1 :], axis=axis)
        return replace(self, problem=next(filter(None, (shape_problem(s, n) for s, n in runs))))

    @property
    def channels(self) -> int:
        """Number of activations for one image."""
        return math.prod(self.shape)

    @property
    def mib(self) -> float:
        """Size of the activations for 100 images in float32, in MiB."""
        return 100 * 4 * self.channels / 2**20


@dataclass(frozen=True)
class Tokens:
    """The selection from a layer (tokens, channels): "flatten", "cls", or "mean" from a first token.

    A `start` of None is the first patch token.
    """

    how: str = "flatten"
    start: int | None = None

    def __str__(self) -> str:
        return self.how if self.start is None else f"{self.how}[{self.start}:]"


@dataclass(frozen=True)
class Request:
    """A tap as the user wrote it, and the names of layers that it matches.

    `name` is the new name of the layer, or None; `source` and `suffix` are the rest of the tap: a name or pattern, and
    the tokens with their "@".
    """

    name: str | None
    source: str
    suffix: str
    tokens: Tokens
    matches: tuple[str, ...]
    is_pattern: bool


@dataclass(frozen=True)
class Choice:
    """A tapped layer and its tokens."""

    layer: Layer
    tokens: Tokens

    def to_dict(self) -> dict[str, str]:
        """Return the entry for the metadata of an ONNX file."""
        return {"of": self.layer.name, "part": self.layer.part, "tokens": str(self.tokens)}

    @staticmethod
    def describe(entry: Mapping[str, str]) -> str:
        """Return such an entry as text."""
        part = f"[{entry['part']}]" if entry["part"] else ""
        tokens = f"@{entry['tokens']}" if entry["tokens"] != "flatten" else ""
        return f"{entry['of']}{part}{tokens}"


@dataclass(frozen=True)
class NetworkLayers:
    """The layers of a network by name, in the order of the forward pass, and the shapes of its weights.

    The `kind` of its layers is "module" or "tensor"; their shapes are those for images of a `size` (height, width).
    """

    name: str
    kind: str
    layers: Mapping[str, Layer]
    size: tuple[int, int]
    weights: Mapping[str, tuple[int, ...]]

    def choose(self, requests: Iterable[Request], stacklevel: int = 3) -> dict[str, Choice]:
        """Choose layers by requests, in their order; the layers of a pattern in that of the forward pass.

        Matches of a pattern that cannot be tapped are skipped with a warning, those already chosen without one. The
        `stacklevel` of warnings is that for `warnings.warn` in the caller. Raise ValueError if a layer cannot be
        tapped, no match of a pattern can, or a name repeats or is not allowed.
        """
        chosen: dict[str, Choice] = {}
        for request in requests:
            choices = {name: self._choice(self.layers[name], request) for name in request.matches}
            wrong = {name: reason for name, reason in choices.items() if isinstance(reason, str)}
            if wrong and not request.is_pattern:
                ((name, reason),) = wrong.items()
                tap = request.source + request.suffix if request.name is None else request.name
                raise ValueError(f"tap {tap!r}: the {self.kind} {name!r} {reason}")
            if wrong:
                text = f"the {self.kind}s of {self.name} that match {request.source!r}"
                if len(wrong) == len(choices):
                    raise ValueError(f"none of {text} can be tapped: {group_reasons(wrong)}")
                warnings.warn(
                    f"skipped of {text}: {group_reasons(wrong)}", stacklevel=stacklevel + 1
                )
            order = filter(choices.__contains__, self.layers) if request.is_pattern else choices
            for name in order:
                choice = choices[name]
                if isinstance(choice, str) or (request.is_pattern and choice in chosen.values()):
                    continue
                label = name + request.suffix if request.name is None else request.name
                if label in {"", INPUT}:
                    raise ValueError(f"a layer cannot be named {label!r}")
                if label in chosen:
                    raise ValueError(f"taps names {label!r} twice")
                chosen[label] = choice
        return chosen

    def _choice(self, layer: Layer, request: Request) -> Choice | str:
        """The choice, or why the layer cannot be tapped."""
        tokens = request.tokens
        if layer.problem or tokens.how == "flatten":
            return layer.problem or Choice(layer, tokens)
        if len(layer.shape) != 2:
            return f"returns {layer.shape} for an image; @{tokens} needs (tokens, channels)"
        if tokens.how == "cls":
            return Choice(layer, tokens)
        n, start = layer.shape[0], tokens.start
        if start is None:
            start = _n_prefix_tokens(self.weights)
            if not start:
                return (
                    "has tokens, but no parameter is named a class or register token; "
                    "pass the number N of the first patch token as @mean[N:]"
                )
            if n - start not in _grids(self.size):
                return (
                    f"has {n} tokens, and without {start} for class and registers they are not a grid of "
                    "patches; pass the number N of the first patch token as @mean[N:]"
                )
        if start >= n:
            return f"has {n} tokens, so none from token {start}"
        return Choice(layer, Tokens("mean", start))


def find_taps(taps: Taps, known: Collection[str], owner: str, kind: str) -> list[Request]:
    """Look up taps among the `known` names of a network's layers.

    A tap is ``[name=]layer[@tokens]``. The layer is a name or a pattern: ``*`` and ``?`` stop at the dots of modules
    and the slashes of tensors, ``**`` does not, ``[ab]`` matches one of the characters. The tokens are `flatten`, `cls`
    (token 0), `mean` (of the patch tokens), or ``mean[N:]`` (of tokens N and later).

    The layers of a module that runs several times are named ``module#0``, ``module#1``, …; a pattern without ``#``
    matches them if it matches the module's path.

    `owner` is the network's name in messages; `kind` is "module" or "tensor". Raise ValueError if there is no tap, or a
    tap matches no layer, gives a name to a pattern, or has other tokens.
    """
    if isinstance(taps, str):
        raise TypeError(f"taps must be a mapping or a list, not the string {taps!r}")
    if not taps:
        raise ValueError("taps is empty; name at least one layer")
    named = taps.items() if isinstance(taps, Mapping) else (_split(tap, known) for tap in taps)
    return [_request(name, text, known, owner, kind) for name, text in named]


def match_pattern(text: str, names: Iterable[str], kind: str) -> tuple[str, ...]:
    """Return the names that match a pattern of `find_taps`; raise ValueError if it is not valid."""
    expression = compile_pattern(text, kind)
    any_run = kind == "module" and "#" not in text
    return tuple(
        name
        for name in names
        if expression.fullmatch(name) or (any_run and expression.fullmatch(_RUN.sub("", name)))
    )


def compile_pattern(text: str, kind: str) -> re.Pattern[str]:
    """Return a pattern of `find_taps` as a regular expression; raise ValueError if it is not valid."""
    level = _SEPARATORS[kind]
    stop = re.escape(level)
    # "**." matches any number of levels, including none.
    wild = {f"**{level}": f"(?:.*{stop})?", "**": ".*", "*": f"[^{stop}]*", "?": f"[^{stop}]"}

    def translated(part: str) -> str:
        if part in wild:
            return wild[part]
        if not _WILD.fullmatch(part):
            return re.escape(part)
        inner = part[1:-1].replace("\\", r"\\").replace("[", r"\[")
        return f"[^{inner[1:]}{stop}]" if inner.startswith("!") else f"[{inner}]"

    parts = re.split(rf"(\*\*{stop}|{_WILD.pattern})", text)
    expression = "".join(map(translated, parts))
    try:
        return re.compile(expression, re.DOTALL)
    except re.error as error:
        raise ValueError(f"{text!r} is not a pattern: {error}") from None


def needs_second_run(shape: tuple[int, ...], n: int) -> bool:
    """Whether a run on another number of images than n has to show which axis of an output is the batch."""
    return len(shape) > 2 and shape[1] == n


def describe_taps(metadata: Mapping[str, str]) -> str:
    """Return the layers in an ONNX file's metadata as text, with what is tapped where it differs: "a,IT=b@cls"."""
    entries = json.loads(metadata.get("fastrdm.taps", "{}"))
    texts = []
    for name in json.loads(metadata.get("fastrdm.layers", "[]")):
        place = Choice.describe(entries[name]) if name in entries else name
        texts.append(name if name == place else f"{name}={place}")
    return ",".join(texts)


def shape_problem(shape: tuple[int, ...], n: int) -> str:
    """Return why an output's shape, for n images, is not that of a layer; empty if it is."""
    if len(shape) > 1 and shape[0] == n:
        return ""
    hint = f"; {INNER_SHAPES}" if n > 1 and shape[:1] == (1,) else ""
    return f"returns shape {shape}, not (batch, channels...), for a probe of {n} images{hint}"


def group_reasons(reasons: Mapping[str, str]) -> str:
    """Join names by their reason, showing the first ones of each."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    texts = [f"{list_names(names, _SHOWN)}: {reason}" for reason, names in groups.items()]
    others = len(reasons) - sum(map(len, list(groups.values())[:_SHOWN]))
    return "; ".join(texts[:_SHOWN] + ([f"{others} more for other reasons"] if others else []))


def _split(tap: str, known: Collection[str]) -> tuple[str | None, str]:
    """A tap's name, or None, and the rest."""
    name, equals, text = tap.partition("=")
    return (name, text) if equals and tap not in known else (None, tap)


def _request(name: str | None, text: str, known: Collection[str], owner: str, kind: str) -> Request:
    source, suffix, tokens = text, "", Tokens()
    # A name equal to the whole text has priority: tensors can have any name.
    if text not in known and "@" in text:
        source, _, word = text.rpartition("@")
        match = _TOKENS.fullmatch(word)
        if match is None:
            raise ValueError(
                f"tap {text!r}: @ must be followed by flatten, cls, mean or mean[N:], not {word!r}"
            )
        start = None if match[1] is None else int(match[1])
        suffix, tokens = f"@{word}", Tokens(word.partition("[")[0], start)
    if source in known:
        return Request(name, source, suffix, tokens, (source,), False)
    tap = text if name is None else name
    if not _WILD.search(source):
        if runs := [each for each in known if _RUN.sub("", each) == source]:
            raise ValueError(
                f"tap {tap!r}: the {kind} {source!r} runs {len(runs)} times in the forward pass; tap one of its runs"
                f" ({list_names(runs, _SHOWN)}) or all, as {f'{source}#*'!r}"
            )
        raise ValueError(
            f"tap {tap!r}: {owner} has no {kind} {source!r}{_runs_of(source, known)}; "
            f"nearest: {nearest(source, known)}"
        )
    if name is not None:
        raise ValueError(
            f"tap {tap!r}: {source!r} is a pattern, which cannot have a name; remove the name"
        )
    matches = match_pattern(source, known, kind)
    if not matches:
        raise ValueError(
            f"tap {tap!r}: {owner} has no {kind} that matches {source!r}; "
            f"nearest: {nearest(source, known)}"
        )
    return Request(name, source, suffix, tokens, matches, True)


def _runs_of(source: str, known: Collection[str]) -> str:
    """What runs how often, if a source is a run that does not exist, as part of a message; else empty."""
    path = _RUN.sub("", source)
    if path == source or path not in known:
        return ""
    inner = [name for name in known if name.startswith(f"{path}.") and name.endswith("#1")]
    inside = (
        f"; in it run several times: {list_names([_RUN.sub('#*', name) for name in inner])}"
        if inner
        else ""
    )
    return f", because {path!r} runs once{inside}"


def _n_prefix_tokens(weights: Mapping[str, tuple[int, ...]]) -> int:
    """Number of class and register tokens, by the names of parameters."""
    # (1, registers, channels), (1, 1, channels) or (channels,).
    return sum(
        math.prod(shape[:-1])
        for name, shape in weights.items()
        if re.split(r"[./]", name)[-1] in _PREFIXED
    )


def _grids(size: tuple[int, int]) -> set[int]:
    """Possible numbers of square patches in an image."""
    height, width = size
    return {(height // edge) * (width // edge) for edge in range(1, min(size) + 1)}
