"""The channels of each place, as a sequence of index arrays that knows the channel at each centre."""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.intp]


class Neighbourhoods(Sequence[Index]):
    """Channels of each place: a sequence of index arrays, for `calc_rdm_searchlight` and `score_searchlight`.

    Attributes
    ----------
    centres : ndarray of intp, shape (places,)
        The channel at the centre of each place.
    n_channels : int
        Number of channels that data need.
    """

    def __init__(self, indices: Index, starts: Index, centres: Index, n_channels: int) -> None:
        self._indices, self._starts = indices, starts
        self.centres = centres
        self.n_channels = n_channels

    def __len__(self) -> int:
        return len(self.centres)

    @overload
    def __getitem__(self, key: int) -> Index: ...

    @overload
    def __getitem__(self, key: slice) -> "Neighbourhoods": ...

    def __getitem__(self, key: int | slice) -> "Index | Neighbourhoods":
        if isinstance(key, slice):
            chosen = range(len(self))[key]
            lists = [self[k] for k in chosen]
            return collected(lists, self.centres[key], self.n_channels)
        place = range(len(self))[key]
        return self._indices[self._starts[place] : self._starts[place + 1]]

    def __iter__(self) -> Iterator[Index]:
        return (self[k] for k in range(len(self)))

    @property
    def sizes(self) -> Index:
        """Number of channels of each place."""
        return np.diff(self._starts)

    def __repr__(self) -> str:
        sizes = self.sizes
        few, many = (sizes.min(), sizes.max()) if len(self) else (0, 0)
        return (
            f"<Neighbourhoods: {len(self)} places of {few} to {many} of {self.n_channels} channels>"
        )


def collected(lists: Sequence[Index], centres: Any, n_channels: int) -> Neighbourhoods:
    """Return neighbourhoods of a list of index arrays."""
    starts = np.zeros(len(lists) + 1, np.intp)
    np.cumsum([len(each) for each in lists], out=starts[1:])
    indices = np.concatenate(lists) if len(lists) else np.empty(0, np.intp)
    return Neighbourhoods(
        indices.astype(np.intp, copy=False), starts, np.asarray(centres, np.intp), n_channels
    )


def check_positive(number: Any, name: str, unit: str) -> float:
    """Return a finite number above 0; ValueError names the argument and its unit."""
    value = np.asarray(number)
    if value.ndim or value.dtype.kind not in "iuf" or not np.isfinite(value) or value <= 0:
        raise ValueError(f"{name} is {number!r}; expected a number above 0, in {unit}")
    return float(value)
