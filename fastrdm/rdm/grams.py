"""Activations → Gram matrices: `gram`, for one layer or a stack."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload

from numpy.typing import NDArray

from fastrdm._base import common_labels, labels_of, parse_bytes
from fastrdm.rdm.gram_making import gram_of
from fastrdm.rdm.gram_matrix import Gram
from fastrdm.rdm.gram_parts import GRAM_METHODS
from fastrdm.rdm.gram_projection import GramProjector
from fastrdm.rdm.inputs import members_of
from fastrdm.rdm.methods import method_named
from fastrdm.rdm.projection import SparseProjection
from fastrdm.rdm.sources import TensorMember
from fastrdm.rdm.stacks import each_of
from fastrdm.rdm.tensor_grams import tensor_gram
from fastrdm.tensors import check_like, in_kind

Name = TypeVar("Name", bound=Hashable)


@overload
def gram(
    activations: Mapping[Name, Any],
    *,
    methods: Iterable[str] | None = ...,
    max_memory: int | str | None = ...,
    projection: SparseProjection | None = ...,
    like: None = ...,
    n_threads: int | None = ...,
) -> dict[Name, Gram]: ...
@overload
def gram(
    activations: Sequence[NDArray[Any]],
    *,
    methods: Iterable[str] | None = ...,
    max_memory: int | str | None = ...,
    projection: SparseProjection | None = ...,
    like: None = ...,
    n_threads: int | None = ...,
) -> list[Gram]: ...
@overload
def gram(
    activations: Any,
    *,
    methods: Iterable[str] | None = ...,
    max_memory: int | str | None = ...,
    projection: SparseProjection | None = ...,
    like: Any = ...,
    n_threads: int | None = ...,
) -> Any: ...
def gram(
    activations: Any,
    *,
    methods: Iterable[str] | None = None,
    max_memory: int | str | None = None,
    projection: SparseProjection | None = None,
    like: Any = None,
    n_threads: int | None = None,
) -> Any:
    """Compute the Gram matrix of a layer, or of each layer of a stack: the products of all pairs of conditions.

    Float32 and 16-bit activations are multiplied in float32 and summed in float64, others in float64, as by
    `calc_rdm`, of whose RDMs a Gram has every bit. Activations on a device are multiplied there, and only the products
    are copied to the host: a Gram holds NumPy arrays.

    Parameters
    ----------
    activations : array_like, shape (conditions, channels, ...), or list, tuple or dict of such
        As for `calc_rdm`: an array is one layer, a list or tuple of arrays a stack, a dict a stack with names.
    methods : iterable of str, optional
        Methods of the RDMs that are wanted, among those that the table of `calc_rdm` marks for blocks; by default all.
        For near pairs each needs digits that products lack, so fewer methods take less time and memory.
    max_memory : int or str, optional
        Bytes, or a string such as ``"500MB"``, that the call may use in addition to its input and the result, as for
        `calc_rdm`. Rows of mapped files are read in place.
    projection : SparseProjection, optional
        Projects layers with more channels than its components; layers are named by their keys or indices. Not for
        activations on a device.
    like : array, optional
        An array of the kind in which products are returned instead of a `Gram`, as for `calc_rdm`: a tensor on a device
        for `cka` there, for example.
    n_threads : int, optional
        Number of threads; by default one for each processor available to the process.

    Returns
    -------
    Gram, list of Gram for a list or tuple, or dict of Gram with the same keys
        With `like`, `Gram.products` in place of each Gram, as an array of that kind.

    Raises
    ------
    ValueError
        As for `calc_rdm`, or if a method needs more than products, or `methods` and `like` were both given.

    See Also
    --------
    GramAccumulator : Gram matrix from blocks of channels.

    Examples
    --------
    >>> import numpy as np, fastrdm
    >>> activations = np.random.default_rng(0).random((10, 600))
    >>> layer = fastrdm.gram(activations)
    >>> layer
    <Gram of 10 conditions × 600 channels>
    >>> bool(np.allclose(layer.products, activations @ activations.T))
    True
    >>> bool(np.array_equal(layer.rdm("cosine"), fastrdm.calc_rdm(activations, "cosine")))
    True
    """
    check_like(like)
    if like is not None and methods is not None:
        raise ValueError("methods and like were both given; products are the same for all methods")
    chosen = chosen_methods(methods) if like is None else ()
    if isinstance(activations, Mapping):
        activations = dict(activations)
    members, stacked = members_of(activations, in_place=max_memory is not None)
    arrays: list[Any] = [activations]
    if stacked:
        named = isinstance(activations, Mapping)
        arrays = list(activations.values()) if named else list(activations)
    labels = [
        labels_of(array, 0, member.name, "condition")
        for array, member in zip(arrays, members, strict=True)
    ]
    common_labels(labels)
    memory = None if max_memory is None else parse_bytes(max_memory)

    if projection is not None:
        for member in members:
            if isinstance(member, TensorMember):
                raise member.refused("a projection")
    names: Sequence[Any] = range(len(members))
    if isinstance(activations, Mapping):
        names = list(activations)
    if not stacked:
        names = [""]

    def make(k: int, n_threads: int) -> Gram:
        member, room = members[k], memory
        if isinstance(member, TensorMember):
            return tensor_gram(member, chosen, labels[k], memory)
        if projection is not None:
            projector = GramProjector.of(projection, member.rows.shape[1], names[k], chosen)
            if projector.n_components < projector.n_channels:
                if room is not None:
                    room = projector.room(room, len(member.rows), n_threads)
                projected = projector.project(member.rows, n_threads)
                return projector.gram(projected, labels[k], room, n_threads)
        return gram_of(member, chosen, labels[k], room, n_threads)

    grams: list[Any] = each_of(make, members, memory is not None, n_threads)
    if like is not None:
        grams = [in_kind(made.products, like) for made in grams]
    if not stacked:
        return grams[0]
    return dict(zip(activations, grams, strict=True)) if isinstance(activations, Mapping) else grams


def chosen_methods(methods: Iterable[str] | None) -> tuple[str, ...]:
    """Return the names of methods, in the table's order; ValueError for one that needs more than products."""
    if methods is None:
        return GRAM_METHODS
    if isinstance(methods, str):
        raise TypeError(f"methods must be a list of method names, not the string {methods!r}")
    rows = [(method, method_named(method)) for method in methods]
    for method, row in rows:
        if row.whole:
            raise ValueError(f"method {method!r} {row.whole}; use calc_rdm instead")
    return tuple(name for name in GRAM_METHODS if name in {row.name for _, row in rows})
