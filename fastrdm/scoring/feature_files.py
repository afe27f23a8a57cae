"""Features that were saved in files, or are in memory: layers by name, with the names of their images."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    UNNAMED,
    Labels,
    StoredArray,
    as_array,
    common_labels,
    labels_of,
    list_names,
    open_arrays,
    read_column,
    read_lines,
    suggestion,
)
from fastrdm.scoring.feature_folders import folder_arrays, is_feature_folder

#: Variables, or attributes of HDF5 files, that hold the names of the images; upper and lower case are the same.
NAME_VARIABLES = (
    *("names", "image_names", "images", "stimuli", "stimulus", "stimulus_names", "stimulus_ids"),
    *("filenames", "file_names", "image_files", "files", "paths", "image_paths", "image_ids"),
    *("image_id", "stimulus_id"),
)
FEATURE_SUFFIXES = (".npz", ".npy", ".h5", ".hdf5")
# Bytes of a block.
_BLOCK = 1 << 26


@dataclass(frozen=True)
class FeatureLayer:
    """A layer's features, (images, channels, ...), read in blocks of channels."""

    name: str
    shape: tuple[int, ...]
    itemsize: int
    read: Callable[[tuple[slice, ...]], NDArray[Any]]
    chunk: tuple[int, ...] | None = None

    def blocks(self, rows: NDArray[np.intp]) -> Iterator[NDArray[Any]]:
        """Yield the features of some images, (images, channels), a block of channels at a time."""
        first, last = int(rows.min()), int(rows.max()) + 1
        axis = 1 + int(np.argmax(self.shape[1:]))
        length = self.shape[axis]
        of_one = prod(self.shape[1:]) // length * self.itemsize * (last - first)
        step = max(1, _BLOCK // max(1, of_one))
        if self.chunk is not None:
            # Chunks are inflated as a whole.
            step = -(-step // self.chunk[axis]) * self.chunk[axis]
        for start in range(0, length, step):
            part = (slice(first, last), *[slice(None)] * (axis - 1), slice(start, start + step))
            block = self.read(part)[rows - first]
            yield block.reshape(len(rows), -1)


@dataclass(frozen=True)
class Features:
    """Layers of features with a row for each image.

    Attributes
    ----------
    source : str
        The file, or what messages call features in memory.
    layers : tuple of FeatureLayer
    n_rows : int
        Number of images.
    names : tuple of str or None
        Names of the images; None if they are not known.
    """

    source: str
    layers: tuple[FeatureLayer, ...]
    n_rows: int
    names: tuple[str, ...] | None


def is_feature_file(path: str | Path) -> bool:
    """Return whether a path ends as files of features do, or is a folder of features."""
    return Path(path).suffix.lower() in FEATURE_SUFFIXES or is_feature_folder(path)


def features_of(
    features: Any,
    names: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    images: Collection[str] = (),
) -> Features:
    """Return the features of a file, or of a dict of arrays.

    Parameters
    ----------
    features : path-like, or dict of array_like
        A `.npz` or HDF5 file with an array (images, channels, ...) for each layer, a `.npy` file with one layer, a
        folder of Net2Brain or thingsvision, or arrays by the names of layers.
    names : sequence of str, optional
        Names of the images. By default those of the file: of a variable of text in `NAME_VARIABLES`, or the column
        ``stimulus`` of a `.csv` file beside it with the same name; of a dict, labels of its pandas or xarray objects.
    layers : sequence of str, optional
        Names of the layers to take, or patterns with ``*``; by default all arrays with two axes or more.
    images : collection of str
        Names of images that are to be found, which tell what the files of a folder are.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it cannot be read, holds no layer, layers differ in their number of images, or the names are not as many.
    """
    if isinstance(features, Mapping):
        found, own = _in_memory(features)
        source = "features"
    elif isinstance(features, str | Path):
        path = Path(features)
        found, own = _of_folder(path, images) if path.is_dir() else _of_file(path)
        source = str(features)
    else:
        raise ValueError(
            f"features is of type {type(features).__name__}; pass a path, or a dict of arrays by layer"
        )
    chosen = _chosen(found, layers, source)
    counts = {layer.shape[0] for layer in chosen}
    if len(counts) > 1:
        shapes = list_names((f"{layer.name} {layer.shape}" for layer in chosen), 6)
        raise ValueError(f"the layers of {source} differ in their number of images: {shapes}")
    n_rows = counts.pop()
    known = own if names is None else tuple(map(str, names))
    if known is not None and len(known) != n_rows:
        raise ValueError(
            f"{source} has {len(known)} names of images, but {chosen[0].name} has {n_rows} rows, shape"
            f" {chosen[0].shape}"
        )
    return Features(source, chosen, n_rows, known)


def _in_memory(
    features: Mapping[Any, Any],
) -> tuple[list[FeatureLayer], tuple[str, ...] | None]:
    found: list[FeatureLayer] = []
    known: Labels | None = None
    for key, value in features.items():
        label = f"features[{key!r}]"
        array = as_array(value, label)
        labels = labels_of(value, 0, label, "condition")
        if labels is not None:
            common_labels([known, labels])
            known = known or labels
        found.append(
            FeatureLayer(str(key), array.shape, array.dtype.itemsize, partial(_part, array))
        )
    return found, None if known is None else tuple(map(str, known.values))


def _part(array: NDArray[Any], part: tuple[slice, ...]) -> NDArray[Any]:
    return np.asarray(array[part])


def _of_file(path: Path) -> tuple[list[FeatureLayer], tuple[str, ...] | None]:
    stored = open_arrays(path)
    found = [_layer(name, array, path) for name, array in stored.arrays.items()]
    variables = {name.rpartition("/")[2].lower(): value for name, value in stored.texts.items()}
    for variable in NAME_VARIABLES:
        if variable in variables:
            return found, _texts(variables[variable], f"{variable} of {path}")
    beside = path.with_suffix(".csv")
    if not beside.is_file():
        return found, None
    names = read_column(read_lines(beside, str(beside)), "stimulus", str(beside))
    if names is None:
        raise ValueError(f"{beside}, beside {path.name}, has no column named stimulus")
    return found, tuple(name.strip() for name in names)


def _of_folder(
    folder: Path, images: Collection[str]
) -> tuple[list[FeatureLayer], tuple[str, ...] | None]:
    arrays, names = folder_arrays(folder, images)
    return [_layer(name, array, folder) for name, array in arrays.items()], names


def _layer(name: str, array: StoredArray, path: Path) -> FeatureLayer:
    own = path.stem if name == UNNAMED else name
    return FeatureLayer(own, array.shape, array.dtype.itemsize, array.read, array.chunk)


def _texts(value: Any, name: str) -> tuple[str, ...]:
    array = np.asarray(value)
    texts = [
        each.decode("utf-8", "replace") if isinstance(each, bytes) else each
        for each in array.ravel().tolist()
    ]
    if max(array.shape, default=0) != array.size or not all(isinstance(t, str) for t in texts):
        raise ValueError(f"{name} has shape {array.shape} and is not a list of names")
    return tuple(text.strip() for text in texts)


def _chosen(
    found: Sequence[FeatureLayer], wanted: Sequence[str] | None, source: str
) -> tuple[FeatureLayer, ...]:
    known = [layer for layer in found if len(layer.shape) > 1 and 0 not in layer.shape]
    if not known:
        held = list_names((f"{layer.name} {layer.shape}" for layer in found), 6) or "none"
        raise ValueError(
            f"{source} holds no layer, an array (images, channels, ...) of numbers; its arrays are: {held}"
        )
    if wanted is None:
        return tuple(known)
    names = [layer.name for layer in known]
    for pattern in wanted:
        if not any(name == pattern or fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"{source} has no layer {pattern!r}; it has {list_names(names, 8)}{suggestion(pattern, names)}"
            )
    return tuple(
        layer
        for layer in known
        if any(layer.name == pattern or fnmatchcase(layer.name, pattern) for pattern in wanted)
    )
