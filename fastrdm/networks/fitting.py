"""The state dict of a file that fits a network: chosen when it is the only one, with prefixes of names removed.

A state dict fits exactly if names, shapes and types agree. It fits in part if what differs does not matter: entries on
which no tapped layer depends, heads that the network lacks, and entries without the prefix of the others. One that fits
exactly goes before those that fit in part; averaged weights (EMA) and others are chosen apart.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fastrdm._base import counted, list_names
from fastrdm.networks.errors import WeightsError
from fastrdm.networks.layers import compile_pattern
from fastrdm.networks.layout import (
    Differences,
    Layout,
    current_name,
    describe,
    find_differences,
    with_current_names,
)
from fastrdm.networks.selection import ANY_FITTING, Selection, Taken
from fastrdm.networks.state_dicts import (
    COUNTER,
    TOP,
    StateDict,
    find_state_dicts,
    is_average,
    list_keys,
    under_key,
)

# Modules at the end of a network, of which files and networks have different ones.
_HEADS = {
    *("fc", "fcs", "head", "heads", "head_dist", "classifier", "classif", "last_linear", "logits"),
    *(
        "lm_head",
        "linear_head",
        "projector",
        "projection",
        "projection_head",
        "predictor",
        "mlp_head",
    ),
    *(
        "aux",
        "aux1",
        "aux2",
        "aux_classifier",
        "aux_logits",
        "auxlogits",
        "decoder_pred",
        "prototypes",
    ),
    *("classification_head", "cls_head", "proj_head", "contrastive_head"),
}


_HEAD_NEEDED = ", on which tapped layers depend; tap others with --taps (taps=)"


@dataclass(frozen=True, eq=False)
class _Network:
    """What weights must fit; `needed` are the entries on which the taps depend, None if that is not known."""

    layout: Layout
    name: str
    needed: frozenset[str] | None

    def needs(self, name: str) -> bool:
        return self.needed is None or name in self.needed

    @cached_property
    def modules(self) -> dict[str, bool]:
        """Module → whether a tapped layer depends on an entry in it."""
        modules: dict[str, bool] = {}
        for name in self.layout.entries:
            for module in list(_levels(name))[1:]:
                modules[module] = modules.get(module, False) or self.needs(name)
        return modules

    def lacks_only_a_head(self, name: str) -> bool:
        """Whether an entry that the network lacks belongs to a part on which no tap depends."""
        if self.needed is None:
            return False
        for module in list(_levels(name))[:0:-1]:
            if module not in self.modules:
                *above, own = module.split(".")
                return own.lower() in _HEADS and not any(each.isdigit() for each in above)
            if not self.modules[module]:
                return True
        return False


@dataclass(frozen=True, eq=False)
class _Fit:
    """A state dict without a prefix, as far as it fits.

    `weights` are the entries that the network takes; `problems` what does not fit; `waived` the entries that do not and
    need not fit, `allowed` those that the user allowed, `ignored` those without the prefix.
    """

    key: str
    prefix: str
    weights: Mapping[str, Any]
    problems: Differences
    is_average: bool
    waived: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return not any(self.problems.values())

    @property
    def is_exact(self) -> bool:
        return self.fits and not (self.waived or self.allowed or self.ignored)

    @property
    def n_problems(self) -> int:
        return sum(map(len, self.problems.values()))

    @property
    def place(self) -> str:
        """Key and prefix in messages."""
        parts = [self.key] if self.key != TOP else []
        parts += [f"prefix {self.prefix!r}"] if self.prefix else []
        return ", ".join(parts) or "the top level"


def choose_weights(
    contents: Any,
    kind: type,
    layout: Layout,
    path: str | Path,
    network: str,
    *,
    needed: Collection[str] | None = None,
    selection: Selection = ANY_FITTING,
) -> tuple[dict[str, Any], Taken]:
    """Choose the tensors of a file that a network takes, by their names in the network.

    Parameters
    ----------
    contents, kind
        What the file holds, and the type of its tensors, as from `read_contents`.
    layout : Layout
        The network's entries.
    path, network
        Names in messages.
    needed : collection of str, optional
        Entries on which the tapped layers depend: others may be missing or of another shape. All by default.
    selection : Selection
        What the user asked for.

    Raises
    ------
    WeightsError
        If no state dict fits, or several do; the message lists what does not fit, or the keys.
    """
    if needed is not None:
        tied = {name for group in layout.tied if set(needed) & set(group) for name in group}
        needed = frozenset(needed) | tied
    target = _Network(layout, network, needed)
    found = under_key(find_state_dicts(contents, kind, path), selection.key, path)
    fits = [fit for each in found for fit in _fits_of(each, target, selection)]
    fit, other = _choose(fits, found, target, selection, path)
    is_asked = selection.ema or selection.key is not None or selection.prefix is not None
    return dict(fit.weights), _taken(fit, other, is_asked, target, path)


def _fits_of(state: StateDict, target: _Network, selection: Selection) -> Iterator[_Fit]:
    """Yield a state dict as far as it fits, without each prefix that its names may have."""
    if selection.prefix is not None:
        prefix = _with_dot(selection.prefix, state.tensors)
        is_ema = state.is_average or is_average(prefix)
        fit = _fit(state.key, state.tensors, prefix, is_ema, target, selection)
        yield fit if fit.weights or not prefix else replace(fit, problems=_no_prefix(state, prefix))
        return
    whole = _fit(state.key, state.tensors, "", state.is_average, target, selection)
    if whole.is_exact:
        yield whole
        return
    averages: dict[str, dict[str, Any]] = {}
    rest: dict[str, Any] = {}
    for name, tensor in state.tensors.items():
        group = "" if state.is_average else _average_prefix(name, target.layout)
        (averages.setdefault(group, {}) if group else rest)[name] = tensor
    for names, is_ema in [(rest, state.is_average), *((each, True) for each in averages.values())]:
        if names:
            yield from _best(state.key, names, is_ema, target, selection)


def _best(
    key: str,
    tensors: Mapping[str, Any],
    is_ema: bool,
    target: _Network,
    selection: Selection,
) -> list[_Fit]:
    """The names as they are if they fit so, else without the prefixes with which they fit, or nearly fit."""
    whole = _fit(key, tensors, "", is_ema, target, selection)
    if whole.fits:
        return [whole]
    prefixes = _prefixes(tensors, target.layout)
    fits = [_fit(key, tensors, prefix, is_ema, target, selection) for prefix in prefixes]
    fitting = [fit for fit in fits if fit.fits]
    return fitting or [min([whole, *fits], key=lambda fit: fit.n_problems + len(fit.ignored))]


def _fit(
    key: str,
    tensors: Mapping[str, Any],
    prefix: str,
    is_ema: bool,
    target: _Network,
    selection: Selection,
) -> _Fit:
    layout = target.layout
    stripped = {
        name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)
    }
    ignored = [name for name in tensors if not name.startswith(prefix) and name != COUNTER]
    if COUNTER not in layout.entries:
        stripped.pop(COUNTER, None)
    weights = with_current_names(stripped, layout)
    differences = find_differences(weights, layout)
    if not any(differences.values()):
        return _Fit(key, prefix, weights, differences, is_ema, ignored=tuple(ignored))
    patterns = [compile_pattern(each, "module") for each in selection.allow_missing]
    waived: dict[str, None] = {}
    allowed: dict[str, None] = {}
    problems: Differences = {}
    for label, names in differences.items():
        for name, text in names.items():
            unknown = label == "unexpected"
            matters = not unknown and target.needed is not None and target.needs(name)
            if not matters and any(
                pattern.fullmatch(each) for pattern in patterns for each in _levels(name)
            ):
                allowed[name] = None
            elif target.lacks_only_a_head(name) if unknown else not target.needs(name):
                waived[name] = None
            else:
                problems.setdefault(label, {})[name] = text
    left_out = {*waived, *allowed}
    weights = {name: value for name, value in weights.items() if name not in left_out}
    return _Fit(
        *(key, prefix, weights, problems, is_ema),
        *(tuple(waived), tuple(allowed), tuple(ignored)),
    )


def _levels(name: str) -> Iterator[str]:
    """An entry's name, and those of the modules that it is in."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _prefixes(tensors: Mapping[str, Any], layout: Layout) -> list[str]:
    """Prefixes without which many of the names are those of the network, the most frequent first."""
    counts: Counter[str] = Counter()
    for name in tensors:
        dot = name.find(".")
        while dot >= 0:
            if current_name(name[dot + 1 :], layout) in layout.entries:
                counts[name[: dot + 1]] += 1
            dot = name.find(".", dot + 1)
    most = max(counts.values(), default=0)
    return [prefix for prefix, n in counts.most_common() if 2 * n >= most]


def _average_prefix(name: str, layout: Layout) -> str:
    """The part of a name that marks averaged weights beside others, as "model_ema."; empty if it has none."""
    if name in layout.entries or name == COUNTER:
        return ""
    modules = name.split(".")[:-1]
    for end in range(1, min(3, len(modules)) + 1):
        if is_average(modules[end - 1]):
            return ".".join(modules[:end]) + "."
    return ""


def _with_dot(prefix: str, tensors: Mapping[str, Any]) -> str:
    """A prefix with the dot that separates it from the names, if they have one there."""
    dotted = f"{prefix}."
    has_dot = not prefix or prefix.endswith(".")
    return dotted if not has_dot and any(name.startswith(dotted) for name in tensors) else prefix


def _no_prefix(state: StateDict, prefix: str) -> Differences:
    return {f"no entry has the prefix {prefix!r}": {name: name for name in state.tensors}}


def _choose(
    fits: Sequence[_Fit],
    found: list[StateDict],
    target: _Network,
    selection: Selection,
    path: str | Path,
) -> tuple[_Fit, _Fit | None]:
    """The fit to take, and averaged weights beside it that are not taken."""
    averages = [fit for fit in fits if fit.is_average]
    raw = [fit for fit in fits if not fit.is_average]
    if selection.ema and not averages:
        raise WeightsError(
            f"{path}: holds no EMA weights for --ema (ema=True); its keys are {list_keys(found)}"
        )
    if selection.ema:
        return _only(averages, target, path), None
    if any(fit.fits for fit in raw) or not any(fit.fits for fit in averages):
        chosen = _only(raw or averages, target, path, fits)
        beside = [each for each in averages if each is not chosen and _is_weights(each)]
        return chosen, next(iter(beside), None)
    return _only(averages, target, path), None


def _is_weights(fit: _Fit) -> bool:
    return any(len(tensor.shape) for tensor in fit.weights.values())


def _only(
    fits: Sequence[_Fit], target: _Network, path: str | Path, shown: Sequence[_Fit] = ()
) -> _Fit:
    """The only one that fits, exactly or else in part; WeightsError if there are none, or several."""
    fitting = [fit for fit in fits if fit.is_exact] or [fit for fit in fits if fit.fits]
    if not fitting:
        raise WeightsError(_why_none(shown or fits, target, path))
    different: list[_Fit] = []
    for fit in fitting:
        if not any(_are_same(fit, other) for other in different):
            different.append(fit)
    if len(different) == 1:
        return different[0]
    if len({fit.key for fit in different}) == 1:
        prefixes = list_names([repr(fit.prefix) for fit in different], 8)
        raise WeightsError(
            f"{path}: several prefixes of its names fit {target.name}: {prefixes}; "
            "choose one with --prefix TEXT (prefix=)"
        )
    keys = list_names(dict.fromkeys(fit.key for fit in different), 8)
    raise WeightsError(
        f"{path}: several state dicts fit {target.name}: {keys}; choose one with --key NAME (key=)"
    )


def _why_none(fits: Sequence[_Fit], target: _Network, path: str | Path) -> str:
    """What does not fit, in one sentence."""
    ordered = sorted(fits, key=lambda fit: (not _is_weights(fit), fit.n_problems))
    weighty = [fit for fit in ordered if _is_weights(fit)] or ordered
    if len(weighty) == 1:
        (fit,) = weighty
        place = "" if fit.key == TOP and not fit.prefix else f" (under {fit.place})"
        hint = "" if not _is_head_alone(fit, target) else _HEAD_NEEDED
        return f"{path}{place} does not fit {target.name}; {describe(fit.problems)}{hint}"
    texts = [f"{fit.place} ({describe(fit.problems)})" for fit in weighty[:3]]
    more = [fit.key for fit in weighty[3:]]
    rest = f", nor {list_names(more, 8)}" if more else ""
    return (
        f"{path}: none of its {counted(len(weighty), 'state dict')} fits {target.name}: "
        f"{', '.join(texts)}{rest}; --key NAME (key=) chooses one"
    )


def _is_head_alone(fit: _Fit, target: _Network) -> bool:
    """Whether nothing but a head that taps depend on does not fit."""
    return target.needed is not None and all(
        _HEADS & {module.lower() for module in name.split(".")[:-1]}
        for names in fit.problems.values()
        for name in names
    )


def _are_same(fit: _Fit, other: _Fit) -> bool:
    """Whether two fits take the same memory: one state dict that is saved under two keys."""
    return fit.weights.keys() == other.weights.keys() and all(
        _place(value) == _place(other.weights[name]) for name, value in fit.weights.items()
    )


def _place(tensor: Any) -> int:
    return int(tensor.data_ptr() if hasattr(tensor, "data_ptr") else tensor.ctypes.data)


def _taken(
    fit: _Fit, other: _Fit | None, is_asked: bool, target: _Network, path: str | Path
) -> Taken:
    remarks = []
    ema = ""
    if fit.is_average:
        ema = "yes"
        if not is_asked:
            place = "" if fit.key == TOP and not fit.prefix else f" under {fit.place}"
            remarks.append(
                f"{path}: took the averaged (EMA) weights{place}, because no others fit {target.name}"
            )
    elif other is not None:
        ema = "no"
        remarks.append(
            f"{path}: took the weights under {fit.place}, not the averaged (EMA) ones under {other.place}, "
            "which --ema (ema=True) takes"
        )
    if fit.ignored:
        remarks.append(
            f"{path}: took the entries with the prefix {fit.prefix!r} and ignored "
            f"{counted(len(fit.ignored), 'other')}: {list_names(fit.ignored)}"
        )
    if fit.waived:
        remarks.append(
            f"{path}: left out {list_names(fit.waived)}, which are missing, of another shape or unknown to "
            f"{target.name}, because no tapped layer depends on them"
        )
    missing = (*fit.waived, *fit.allowed)
    return Taken("" if fit.key == TOP else fit.key, fit.prefix, ema, missing, tuple(remarks))
