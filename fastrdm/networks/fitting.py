"""The state dict of a file that fits a network: chosen when it is the only one, with prefixes of names removed.

A state dict fits exactly if names, shapes and types agree. It fits in part if what differs does not matter: entries on
which no tapped layer depends, heads that the network lacks, and entries without the prefix of the others. One that fits
exactly goes before those that fit in part; averaged weights (EMA) and others are chosen apart.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastrdm._base import counted, list_names
from fastrdm.networks.errors import WeightsError
from fastrdm.networks.layout import Layout, describe
from fastrdm.networks.matching import Match, WeightsTarget, matches_of
from fastrdm.networks.selection import ANY_FITTING, Selection, Taken
from fastrdm.networks.state_dicts import (
    TOP,
    StateDict,
    find_state_dicts,
    find_unnamed_averages,
    list_keys,
    under_key,
)

_HEAD_NEEDED = "; tapped layers depend on them: build the network with the same head, or tap others with --taps (taps=)"


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
    target = WeightsTarget(layout, network, needed)
    found = under_key(find_state_dicts(contents, kind, path), selection.key, path)
    fits = [fit for each in found for fit in matches_of(each, target, selection)]
    unnamed = find_unnamed_averages(contents, kind)
    if selection.ema and unnamed and not any(fit.is_average for fit in fits):
        raise WeightsError(
            f"{path}: the averaged (EMA) weights under {unnamed} are a list without names, which --ema (ema=True) "
            "cannot take; copy them into the network in training and save its state dict"
        )
    fit, other = _choose(fits, found, target, selection, path)
    is_asked = selection.ema or selection.key is not None or selection.prefix is not None
    taken = _taken(fit, other, is_asked, target, path)
    if unnamed and not taken.ema:
        remark = (
            f"{path}: took the weights {fit.place}, not the averaged (EMA) ones under {unnamed}, "
            "which are a list without names"
        )
        taken = replace(taken, ema="no", remarks=(remark, *taken.remarks))
    return dict(fit.weights), taken


def _choose(
    fits: Sequence[Match],
    found: list[StateDict],
    target: WeightsTarget,
    selection: Selection,
    path: str | Path,
) -> tuple[Match, Match | None]:
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
        beside = [each for each in averages if each is not chosen and each.is_weights]
        return chosen, next(iter(beside), None)
    return _only(averages, target, path), None


def _only(
    fits: Sequence[Match], target: WeightsTarget, path: str | Path, shown: Sequence[Match] = ()
) -> Match:
    """The only one that fits, exactly or else in part; WeightsError if there are none, or several."""
    fitting = [fit for fit in fits if fit.is_exact] or [fit for fit in fits if fit.fits]
    if not fitting:
        raise WeightsError(_why_none(shown or fits, target, path))
    different: list[Match] = []
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


def _why_none(fits: Sequence[Match], target: WeightsTarget, path: str | Path) -> str:
    """What does not fit, in one sentence."""
    ordered = sorted(fits, key=lambda fit: (not fit.is_weights, fit.n_problems))
    weighty = [fit for fit in ordered if fit.is_weights] or ordered
    if len(weighty) == 1:
        (fit,) = weighty
        place = "" if fit.key == TOP and not fit.prefix else f" ({fit.place})"
        is_tapped = target.needed is not None and fit.is_wrong_in_heads_alone
        hint = _HEAD_NEEDED if is_tapped else ""
        return f"{path}{place} does not fit {target.name}; {describe(fit.problems)}{hint}"
    in_heads = [fit for fit in weighty if fit.is_wrong_in_heads_alone]
    is_tapped = target.needed is not None and bool(in_heads)
    shown = in_heads if is_tapped else weighty
    texts = [f"{fit.place} ({describe(fit.problems)})" for fit in shown[: 1 if is_tapped else 3]]
    more = [fit.key for fit in weighty if fit not in shown[: len(texts)]]
    rest = f", nor {list_names(more, 8)}" if more else ""
    hint = _HEAD_NEEDED if is_tapped else "; --key NAME (key=) chooses one"
    return (
        f"{path}: none of its {counted(len(weighty), 'state dict')} fits {target.name}: "
        f"{', '.join(texts)}{rest}{hint}"
    )


def _are_same(fit: Match, other: Match) -> bool:
    """Whether two fits take the same memory: one state dict that is saved under two keys."""
    return fit.weights.keys() == other.weights.keys() and all(
        _place(value) == _place(other.weights[name]) for name, value in fit.weights.items()
    )


def _place(tensor: Any) -> int:
    return int(tensor.data_ptr() if hasattr(tensor, "data_ptr") else tensor.ctypes.data)


def _taken(
    fit: Match, other: Match | None, is_asked: bool, target: WeightsTarget, path: str | Path
) -> Taken:
    remarks = []
    ema = ""
    if fit.is_average:
        ema = "yes"
        if not is_asked:
            place = "" if fit.key == TOP and not fit.prefix else f" {fit.place}"
            remarks.append(
                f"{path}: took the averaged (EMA) weights{place}, because no others fit {target.name}"
            )
    elif other is not None:
        ema = "no"
        remarks.append(
            f"{path}: took the weights {fit.place}, not the averaged (EMA) ones {other.place}, "
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
