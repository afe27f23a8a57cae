"""Which layers of a network are tapped: names, patterns, and what is taken of a transformer's tokens."""

import math
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fastrdm._base import list_names, nearest

Taps: TypeAlias = Mapping[str, str] | Sequence[str]

INPUT = "images"
"""What a network's input is called in its ONNX file; no layer can be."""

INNER_SHAPES = (
    "inner shapes may want one image at a time, which batch_size=1 (--batch-size 1) gives"
)
"""What helps where a network runs on one image and not on several."""

_SHOWN = 3
_TOKENS = re.compile(r"flatten|cls|mean(?:\[(\d+):\])?")
_WILD = re.compile(r"\*\*|\*|\?|\[!?+\]?+[^\]]*\]")
# What "*" stops at, by the kind of layer.
_SEPARATORS = {"module": ".", "tensor": "/"}
# Parameters that are put before the patch tokens, as timm, transformers, torchvision, open_clip and
# DINOv2 call them.
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
    """What a network has at one place: a module of a torch network, or a tensor of an ONNX graph.

    Attributes
    ----------
    name : str
        Path of the module, or name of the tensor.
    operator : str
        Class of the module, or the operation that gives the tensor.
    shape : tuple of int
        Of one image's activations.
    part : str
        Which of several outputs is taken, a key or an index; empty where there is one.
    problem : str
        Why it cannot be tapped, as the rest of a sentence; empty where it can.
    """

    name: str
    operator: str
    shape: tuple[int, ...] = ()
    part: str = ""
    problem: str = ""

    @property
    def channels(self) -> int:
        """Number of activations of one image."""
        return math.prod(self.shape)

    @property
    def mib(self) -> float:
        """Size of 100 images' activations in float32, in MiB."""
        return 100 * 4 * self.channels / 2**20


@dataclass(frozen=True)
class Tokens:
    """What is taken of a layer (tokens, channels): all, the first token, or the mean from one on.

    Attributes
    ----------
    how : {"flatten", "cls", "mean"}
    start : int, optional
        The first token of the mean; None for the first patch token.
    """

    how: str = "flatten"
    start: int | None = None

    def __str__(self) -> str:
        return self.how if self.start is None else f"{self.how}[{self.start}:]"


@dataclass(frozen=True)
class Request:
    """One tap as it was asked for, and the names that it means.

    Attributes
    ----------
    name : str, optional
        What the layer is to be called; None where it is called as it was asked for.
    source, suffix : str
        The tap without its name: a name or pattern, and what follows it from "@" on.
    tokens : Tokens
    matches : tuple of str
        Names of the network's layers; one, unless `is_pattern`.
    is_pattern : bool
    """

    name: str | None
    source: str
    suffix: str
    tokens: Tokens
    matches: tuple[str, ...]
    is_pattern: bool


@dataclass(frozen=True)
class Choice:
    """A tapped layer, and what is taken of its tokens."""

    layer: Layer
    tokens: Tokens

    def to_dict(self) -> dict[str, str]:
        """As it stands in the metadata of an ONNX file."""
        return {"of": self.layer.name, "part": self.layer.part, "tokens": str(self.tokens)}

    @staticmethod
    def describe(entry: Mapping[str, str]) -> str:
        """What `to_dict` gave, in words."""
        part = f"[{entry['part']}]" if entry["part"] else ""
        tokens = f"@{entry['tokens']}" if entry["tokens"] != "flatten" else ""
        return f"{entry['of']}{part}{tokens}"


@dataclass(frozen=True)
class NetworkLayers:
    """What a network offers to be tapped.

    Attributes
    ----------
    name : str
        What messages call it.
    kind : {"module", "tensor"}
        What its layers are.
    layers : mapping of str to Layer
        By name, in the order of the forward pass.
    size : (int, int)
        Height and width of the images that the shapes are for.
    weights : mapping of str to tuple of int
        Shapes of its parameters.
    """

    name: str
    kind: str
    layers: Mapping[str, Layer]
    size: tuple[int, int]
    weights: Mapping[str, tuple[int, ...]]

    def choose(self, requests: Iterable[Request], stacklevel: int = 3) -> dict[str, Choice]:
        """Make taps of requests.

        Parameters
        ----------
        requests : iterable of Request
            From `find_taps`.
        stacklevel : int
            Whose warnings they are, as for `warnings.warn` in the caller of this.

        Returns
        -------
        dict of str to Choice
            In the order of the requests; a pattern's layers in that of the forward pass. What a
            pattern matches but cannot be tapped is skipped with a warning, and so, without one, is
            what stands there already.

        Raises
        ------
        ValueError
            If a layer cannot be tapped, or none that matches a pattern can, or a name is there
            twice or is one that no layer can have.
        """
        chosen: dict[str, Choice] = {}
        for request in requests:
            found = {name: self._choice(self.layers[name], request) for name in request.matches}
            wrong = {name: reason for name, reason in found.items() if isinstance(reason, str)}
            if wrong and not request.is_pattern:
                ((name, reason),) = wrong.items()
                tap = request.source + request.suffix if request.name is None else request.name
                raise ValueError(f"tap {tap!r}: the {self.kind} {name!r} {reason}")
            if wrong:
                text = f"the {self.kind}s of {self.name} that match {request.source!r}"
                if len(wrong) == len(found):
                    raise ValueError(f"none of {text} can be tapped: {group_reasons(wrong)}")
                warnings.warn(
                    f"skipped of {text}: {group_reasons(wrong)}", stacklevel=stacklevel + 1
                )
            order = [name for name in self.layers if name in found] if request.is_pattern else found
            for name in order:
                choice = found[name]
                if isinstance(choice, str) or (request.is_pattern and choice in chosen.values()):
                    continue
                label = name + request.suffix if request.name is None else request.name
                if label in {"", INPUT}:
                    raise ValueError(f"a layer cannot be called {label!r}")
                if label in chosen:
                    raise ValueError(f"taps names {label!r} twice")
                chosen[label] = choice
        return chosen

    def _choice(self, layer: Layer, request: Request) -> Choice | str:
        """What is tapped of a layer, or why nothing can be."""
        tokens = request.tokens
        if layer.problem or tokens.how == "flatten":
            return layer.problem or Choice(layer, tokens)
        if len(layer.shape) != 2:
            return f"gives {layer.shape} an image, not (tokens, channels) as @{tokens} needs"
        if tokens.how == "cls":
            return Choice(layer, tokens)
        n, start = layer.shape[0], tokens.start
        if start is None:
            start = _n_prefix_tokens(self.weights)
            if not start:
                return (
                    "has tokens, and no parameter is called a class or register token; "
                    "give the first patch's number N as @mean[N:]"
                )
            if n - start not in _grids(self.size):
                return (
                    f"has {n} tokens, which less {start} of class and registers make no grid of "
                    "patches; give the first patch's number N as @mean[N:]"
                )
        if start >= n:
            return f"has {n} tokens, none from {start} on"
        return Choice(layer, Tokens("mean", start))


def find_taps(taps: Taps, known: Collection[str], owner: str, kind: str) -> list[Request]:
    """Look up taps among a network's layers.

    A tap is ``[name=]layer[@tokens]``. The layer is a name or a pattern: ``*`` and ``?`` stop at
    the dots of modules and the slashes of tensors, ``**`` does not, ``[ab]`` is one of some
    characters. The tokens are `flatten`, `cls` (token 0), `mean` (over patch tokens), or
    ``mean[N:]`` (over those from token N on).

    Parameters
    ----------
    taps : mapping of name to ``layer[@tokens]``, or sequence of taps
    known : collection of str
        Names of the network's layers.
    owner : str
        What messages call the network.
    kind : {"module", "tensor"}
        What its layers are.

    Returns
    -------
    list of Request

    Raises
    ------
    ValueError
        If there is no tap, one means no layer, or names all that a pattern matches; or if something
        else follows "@".
    TypeError
        If `taps` is a single string.
    """
    if isinstance(taps, str):
        raise TypeError(f"taps must be a mapping or a list, not the string {taps!r}")
    if not taps:
        raise ValueError("taps is empty; name at least one layer")
    requests = []
    for tap in taps:
        name, text = (tap, taps[tap]) if isinstance(taps, Mapping) else _split(tap, known)
        requests.append(_request(name, text, known, owner, kind))
    return requests


def compile_pattern(text: str, kind: str) -> re.Pattern[str]:
    """The names that a pattern of `find_taps` means, as a regular expression; ValueError where it is none."""
    level = _SEPARATORS[kind]
    stop = re.escape(level)
    # "**." is any number of levels, none among them.
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
        raise ValueError(f"{text!r} is no pattern: {error}") from None


def shape_problem(shape: tuple[int, ...], n: int) -> str:
    """Why an output's shape, for n images, is no layer's; empty where it is one."""
    if len(shape) > 1 and shape[0] == n:
        return ""
    hint = f"; {INNER_SHAPES}" if n > 1 and shape[:1] == (1,) else ""
    return f"gives shape {shape}, not (batch, channels...), for a probe of {n} images{hint}"


def group_reasons(reasons: Mapping[str, str]) -> str:
    """Names by the reason that they share, the first ones of each."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    texts = []
    for reason, names in groups.items():
        texts.append(f"{list_names(names, _SHOWN)}: {reason}")
    others = len(reasons) - sum(map(len, list(groups.values())[:_SHOWN]))
    return "; ".join(texts[:_SHOWN] + ([f"{others} more for other reasons"] if others else []))


def _split(tap: str, known: Collection[str]) -> tuple[str | None, str]:
    """A tap's name, None where it has none, and the rest."""
    name, equals, text = tap.partition("=")
    return (name, text) if equals and tap not in known else (None, tap)


def _request(name: str | None, text: str, known: Collection[str], owner: str, kind: str) -> Request:
    source, suffix, tokens = text, "", Tokens()
    # What bears the whole text as its name is meant by it: tensors can be called anything.
    if text not in known and "@" in text:
        source, _, word = text.rpartition("@")
        match = _TOKENS.fullmatch(word)
        if match is None:
            raise ValueError(
                f"tap {text!r}: after @ comes flatten, cls, mean or mean[N:], not {word!r}"
            )
        start = None if match[1] is None else int(match[1])
        suffix, tokens = f"@{word}", Tokens(word.partition("[")[0], start)
    if source in known:
        return Request(name, source, suffix, tokens, (source,), False)
    tap = text if name is None else name
    if not _WILD.search(source):
        raise ValueError(
            f"tap {tap!r}: {owner} has no {kind} {source!r}; nearest: {nearest(source, known)}"
        )
    if name is not None:
        raise ValueError(
            f"tap {tap!r}: a name is for one {kind}, and {source!r} is a pattern; list it without one"
        )
    expression = compile_pattern(source, kind)
    matches = tuple(name for name in known if expression.fullmatch(name))
    if not matches:
        raise ValueError(
            f"tap {tap!r}: {owner} has no {kind} that matches {source!r}; "
            f"nearest: {nearest(source, known)}"
        )
    return Request(name, source, suffix, tokens, matches, True)


def _n_prefix_tokens(weights: Mapping[str, tuple[int, ...]]) -> int:
    """Number of class and register tokens; 0 where no parameter is called one."""
    # (1, registers, channels), (1, 1, channels) or (channels,).
    return sum(
        math.prod(shape[:-1])
        for name, shape in weights.items()
        if re.split(r"[./]", name)[-1] in _PREFIXED
    )


def _grids(size: tuple[int, int]) -> set[int]:
    """Numbers of square patches that an image can be cut into."""
    height, width = size
    return {(height // edge) * (width // edge) for edge in range(1, min(size) + 1)}
