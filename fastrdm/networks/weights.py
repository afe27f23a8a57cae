"""Weights of a file for a network: read, chosen, and put into it."""

import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.networks.errors import WeightsError
from fastrdm.networks.fitting import choose_weights
from fastrdm.networks.layout import Layout, check_fit, check_tied, convert, fit_weights
from fastrdm.networks.matching import with_dot
from fastrdm.networks.selection import ANY_FITTING, Selection, Taken
from fastrdm.networks.state_dicts import COUNTER, find_state_dicts, only_state_dict, under_key
from fastrdm.networks.tensor_files import to_array
from fastrdm.networks.weight_files import read_contents

if TYPE_CHECKING:
    import torch

__all__ = [
    "Layout",
    "WeightsError",
    "check_fit",
    "fit_weights",
    "load_state_dict",
    "load_weights",
    "read_fitting",
    "read_weights",
]


def load_state_dict(
    path: str | Path, *, key: str | None = None, prefix: str | None = None, ema: bool = False
) -> "dict[str, torch.Tensor]":
    """Read a weight file without running any code in it.

    Parameters
    ----------
    path : path
        A `.safetensors` file, a file of `torch.save` with any name, the index of several such files, or the folder
        that holds the index. A state dict may be under any key; beside it may be plain values, and harmless objects
        such as NumPy scalars, Namespaces and paths.
    key : str, optional
        Dotted path of the state dict, such as "ema.module"; "." is the top level. By default the largest by far, or
        the one under "state_dict", "model_state_dict" or "model".
    prefix : str, optional
        Removed from the names; entries without it are left out. By default "module." (from `DataParallel`) is removed
        if all names have it.
    ema : bool
        Whether to take averaged weights, such as those under "state_dict_ema". By default these are taken only if
        there are no others; if both are there, a RuntimeWarning names them.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU, mapped from the file if its format allows.

    Raises
    ------
    WeightsError
        If the file is missing, empty or truncated, is a pickle that would run code (it is not executed) or holds
        other objects, which the message names; if it holds no state dict, or several and it is not clear which to take.
    MissingExtraError
        If torch or safetensors is not installed.
    """
    return _read(path, Selection.of(key, prefix, ema), as_arrays=False)


def read_weights(
    path: str | Path, *, key: str | None = None, prefix: str | None = None, ema: bool = False
) -> dict[str, NDArray[Any]]:
    """Read a weight file as NumPy arrays, mapped from the file if its format allows.

    Weights are loaded into memory when they are first accessed. A mapped file must not be overwritten in place while
    the arrays exist; replacing it by a rename is harmless. `.safetensors` files are read without torch. The arrays are
    read-only and keep the types of the file; bfloat16 and float8 are those of `ml_dtypes`. Arguments and errors are
    those of `load_state_dict`; WeightsError also if a tensor is sparse or of a type that neither NumPy nor `ml_dtypes`
    has.
    """
    return _arrays(_read(path, Selection.of(key, prefix, ema), as_arrays=True), path)


def read_fitting(
    path: str | Path,
    layout: Layout,
    network: str,
    *,
    needed: Collection[str] | None = None,
    selection: Selection = ANY_FITTING,
) -> tuple[dict[str, NDArray[Any]], Taken]:
    """Read the weights of a file that fit a network, in the types of its state dict, and what was taken.

    Only the entries `needed`, on which the tapped layers depend, are read; others may be missing. Parameters and errors
    are those of `choose_weights`.
    """
    contents, kind = read_contents(path, as_arrays=True)
    weights, taken = choose_weights(
        contents, kind, layout, path, network, needed=needed, selection=selection
    )
    if needed is not None:
        wanted = set(needed).union(*layout.tied)
        weights = {name: value for name, value in weights.items() if name in wanted}
    arrays = _arrays(weights, path)
    check_tied(arrays, layout, path, network)
    return convert(arrays, layout), taken


def load_weights(
    module: "torch.nn.Module",
    path: str | Path,
    *,
    key: str | None = None,
    prefix: str | None = None,
    ema: bool = False,
    allow_missing: Sequence[str] = (),
    needed: Callable[[], Collection[str]] | None = None,
) -> Taken:
    """Load the weights of a file into a network; leave the network unchanged if they do not fit.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place.
    path : path
        As for `load_state_dict`.
    key, prefix, ema
        Which weights to take, by default the only ones that fit completely. Prefixes such as "module." are removed if
        the names fit only without them, and never if they fit as they are; a `prefix` that is given is always removed.
    allow_missing : sequence of str
        Patterns of entries or modules, as for taps, that may be missing, of another shape, or unknown to the network.
    needed : callable, optional
        Returns the entries that must fit; it is called if not all do.

    Returns
    -------
    Taken
        What was taken of the file.

    Warns
    -----
    RuntimeWarning
        If something was left out: averaged weights, entries without the prefix, or entries that differ.

    Raises
    ------
    WeightsError
        If the file cannot be read, or does not fit, as for `check_fit`, or if several of its state dicts fit.
    """
    selection = Selection.of(key, prefix, ema, allow_missing)
    layout, name = Layout.of(module), type(module).__name__
    contents, kind = read_contents(path, as_arrays=False)

    def choose(entries: Collection[str] | None = None) -> tuple[dict[str, Any], Taken]:
        return choose_weights(
            contents, kind, layout, path, name, needed=entries, selection=selection
        )

    try:
        weights, taken = choose()
    except WeightsError:
        if needed is None:
            raise
        weights, taken = choose(needed())
    else:
        # Others may fit as far as they are needed, or what is missing may be needed.
        if needed is not None and (taken.remarks or taken.missing):
            weights, taken = choose(needed())
    check_tied(weights, layout, path, name)
    for remark in taken.remarks:
        warnings.warn(remark, RuntimeWarning, stacklevel=2)
    module.load_state_dict(weights, strict=False)
    return taken


def _read(path: str | Path, selection: Selection, *, as_arrays: bool) -> dict[str, Any]:
    contents, kind = read_contents(path, as_arrays=as_arrays)
    found = under_key(find_state_dicts(contents, kind, path), selection.key, path)
    chosen, others = only_state_dict(found, selection, path)
    if others:
        warnings.warn(
            f"{path}: took the weights {chosen.place}, not the averaged (EMA) ones {others[0].place}, "
            "which ema=True takes",
            RuntimeWarning,
            stacklevel=3,
        )
    tensors = chosen.tensors
    prefix = selection.prefix
    if prefix is None:
        # An AveragedModel has its counter beside the module.
        names = [name for name in tensors if name != COUNTER]
        prefix = "module." if all(name.startswith("module.") for name in names) else ""
    prefix = with_dot(prefix, tensors)
    taken = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
    if not taken:
        raise WeightsError(f"{path}: no entry has the prefix {prefix!r}")
    return taken


def _arrays(tensors: dict[str, Any], path: str | Path) -> dict[str, NDArray[Any]]:
    return {
        name: value if isinstance(value, np.ndarray) else to_array(value, f"{path}: {name}")
        for name, value in tensors.items()
    }
