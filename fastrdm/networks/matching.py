"""How far a state dict fits a network, with each prefix that its names may have."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fastrdm.networks.layers import compile_pattern
from fastrdm.networks.layout import (
    Differences,
    Layout,
    current_name,
    find_differences,
    with_current_names,
)
from fastrdm.networks.selection import Selection
from fastrdm.networks.state_dicts import COUNTER, TOP, StateDict, is_average

# Modules at the end of a network, of which files and networks have different ones.
_HEADS = {
    *("fc", "fcs", "head", "heads", "head_dist", "classifier", "classif", "last_linear", "logits"),
    *("lm_head", "linear_head", "cls_head", "classification_head", "mlp_head", "contrastive_head"),
    *("projector", "projection", "projection_head", "proj_head", "predictor", "prototypes"),
    *("aux", "aux1", "aux2", "aux_classifier", "aux_logits", "auxlogits", "decoder_pred"),
}


@dataclass(frozen=True, eq=False)
class WeightsTarget:
    """What weights must fit; `needed` are the entries on which the taps depend, None if that is not known."""

    layout: Layout
    name: str
    needed: frozenset[str] | None

    def needs(self, name: str) -> bool:
        """Whether an entry must fit."""
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
class Match:
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
        """Whether nothing that matters differs."""
        return not any(self.problems.values())

    @property
    def is_exact(self) -> bool:
        """Whether nothing differs."""
        return self.fits and not (self.waived or self.allowed or self.ignored)

    @property
    def is_weights(self) -> bool:
        """Whether there are tensors that are not single numbers."""
        return any(len(tensor.shape) for tensor in self.weights.values())

    @property
    def is_wrong_in_heads_alone(self) -> bool:
        """Whether nothing but heads does not fit."""
        return all(
            _HEADS & {module.lower() for module in name.split(".")[:-1]}
            for names in self.problems.values()
            for name in names
        )

    @property
    def n_problems(self) -> int:
        """Number of entries that do not fit."""
        return sum(map(len, self.problems.values()))

    @property
    def place(self) -> str:
        """Key and prefix in messages, such as "under net with the prefix 'module.'"."""
        parts = [f"under {self.key}"] if self.key != TOP else []
        parts += [f"with the prefix {self.prefix!r}"] if self.prefix else []
        return " ".join(parts) or "at the top level"


def matches_of(state: StateDict, target: WeightsTarget, selection: Selection) -> Iterator[Match]:
    """Yield a state dict as far as it fits, without each prefix that its names may have."""
    if selection.prefix is not None:
        prefix = with_dot(selection.prefix, state.tensors)
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
    target: WeightsTarget,
    selection: Selection,
) -> list[Match]:
    """The names as they are if they fit so, else without the prefixes with which they fit, or nearly fit."""
    whole = _fit(key, tensors, "", is_ema, target, selection)
    if whole.fits:
        return [whole]
    prefixes = _prefixes(tensors, target.layout)
    fits = [_fit(key, tensors, prefix, is_ema, target, selection) for prefix in prefixes]
    fitting = [fit for fit in fits if fit.fits]
    if is_ema and any(is_average(fit.prefix) for fit in fitting):
        # The EMA of ema_pytorch keeps the raw weights (online_model.) beside the averaged ones (ema_model.).
        fitting = [replace(fit, is_average=is_average(fit.prefix)) for fit in fitting]
    return fitting or [min([whole, *fits], key=lambda fit: fit.n_problems + len(fit.ignored))]


def _fit(
    key: str,
    tensors: Mapping[str, Any],
    prefix: str,
    is_ema: bool,
    target: WeightsTarget,
    selection: Selection,
) -> Match:
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
        return Match(key, prefix, weights, differences, is_ema, ignored=tuple(ignored))
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
    return Match(
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


def with_dot(prefix: str, tensors: Mapping[str, Any]) -> str:
    """A prefix with the dot that separates it from the names, if they have one there."""
    dotted = f"{prefix}."
    has_dot = not prefix or prefix.endswith(".")
    return dotted if not has_dot and any(name.startswith(dotted) for name in tensors) else prefix


def _no_prefix(state: StateDict, prefix: str) -> Differences:
    return {f"no entry has the prefix {prefix!r}": {name: name for name in state.tensors}}
