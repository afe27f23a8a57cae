"""Folders of features, as Net2Brain and thingsvision write them → arrays by layer, with the names of the images.

Net2Brain writes a `.npz` file for each image, with an array for each layer; consolidated, one for each layer, with an
array for each image. thingsvision writes `features` in one of several formats, or in parts, into the folder or into
one for each layer, and the names of the images into `file_names.txt`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base import (
    NUMBERS,
    StoredArray,
    list_names,
    open_arrays,
    open_contents,
    read_lines,
    read_members,
    require,
)

_NAMES = "file_names.txt"
_OF_NETWORKS = (".onnx", ".pth", ".ckpt", ".safetensors")
_PART = re.compile(r"features[^.]*\.(npy|hdf5|h5|mat|txt|pt)")

FolderArrays = tuple[dict[str, StoredArray], tuple[str, ...] | None]


def is_feature_folder(path: str | Path) -> bool:
    """Return whether a folder holds features as Net2Brain or thingsvision write them."""
    folder = Path(path)
    if not folder.is_dir():
        return False
    return (
        (folder / _NAMES).is_file()
        or bool(_parts(folder))
        or bool(_npz_files(folder))
        or any(_parts(each) for each in _subfolders(folder))
    )


def folder_arrays(folder: Path, images: Collection[str] = ()) -> FolderArrays:
    """Return the arrays (images, channels, ...) of a folder by layer, and the names of their images.

    `images` are names of images that are to be found; they tell whether Net2Brain's files are layers or images.
    ValueError if the folder has none of the known forms.
    """
    by_layer = {folder.name: _parts(folder)} if _parts(folder) else {}
    by_layer = by_layer or {
        each.name: parts for each in _subfolders(folder) if (parts := _parts(each))
    }
    if by_layer:
        return _of_thingsvision(folder, by_layer)
    if files := _npz_files(folder):
        return _of_net2brain(folder, files, {_stem(name) for name in images})
    raise ValueError(
        f"{folder} is a folder of features of an unknown form; known are .npz files of Net2Brain, one for each image or"
        " layer, and the files features.npy, .hdf5, .mat, .txt or .pt of thingsvision, here or in a folder of"
        " each layer"
    )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and each.name[0] != ".")


def _npz_files(folder: Path) -> list[Path]:
    """Return the files of Net2Brain; none of a folder that holds networks too."""
    files = [each for each in folder.iterdir() if each.name[0] != "."]
    if any(each.suffix.lower() in _OF_NETWORKS for each in files):
        return []
    return sorted(each for each in files if each.suffix == ".npz")


def _parts(folder: Path) -> list[Path]:
    """Return thingsvision's files of a layer, in the order of their rows: the whole, or its numbered parts."""
    found = [each for each in folder.iterdir() if _PART.fullmatch(each.name) and each.is_file()]
    whole = sorted(each for each in found if _numbers(each) == ())
    chosen = whole or sorted(found, key=_numbers)
    if len(whole) > 1 or len({each.suffix for each in chosen}) > 1:
        raise ValueError(
            f"{folder} holds features in several files, which may differ: {list_names((p.name for p in chosen), 4)};"
            " keep one format"
        )
    return chosen


def _numbers(path: Path) -> tuple[int, ...]:
    tail = re.search(r"_(\d+)(?:-(\d+))?$", path.stem)
    return tuple(int(n) for n in tail.groups() if n) if tail else ()


def _stem(name: str) -> str:
    """Return the name as Net2Brain writes it, up to the first dot."""
    return PurePosixPath(name.replace("\\", "/")).name.partition(".")[0]


def _of_net2brain(folder: Path, files: Sequence[Path], images: Collection[str]) -> FolderArrays:
    shapes = {
        file: {name: (a.shape, a.dtype) for name, a in open_arrays(file).arrays.items()}
        for file in files
    }
    first = list(shapes[files[0]])
    for file, found in shapes.items():
        if not found or set(found) != set(first):
            missing = list_names(sorted(set(first) ^ set(found)), 4) or "any array"
            raise ValueError(
                f"{file} and {files[0].name} are not features of one kind: they differ in, or lack, {missing}"
            )
    if _are_images(folder, files, shapes, images):
        names = tuple(file.name.removesuffix(".npz") for file in files)
        places = {layer: [(file, layer) for file in files] for layer in first}
    else:
        names = tuple(first)
        places = {file.name.removesuffix(".npz"): [(file, n) for n in names] for file in files}
    arrays = {
        layer: _stacked(layer, each, [shapes[file][name] for file, name in each])
        for layer, each in places.items()
    }
    return arrays, names


def _are_images(
    folder: Path,
    files: Sequence[Path],
    shapes: Mapping[Path, Mapping[str, Any]],
    images: Collection[str],
) -> bool:
    """Return whether each file is an image and its arrays layers, or a layer, whose arrays are images."""
    as_files = sum(_stem(file.name) in images for file in files)
    as_arrays = sum(_stem(name) in images for name in shapes[files[0]])
    if as_files != as_arrays:
        return as_files > as_arrays
    if any(len(set(found.values())) > 1 for found in shapes.values()):
        return True
    if len({next(iter(found.values())) for found in shapes.values()}) > 1 or len(files) == 1:
        return False
    if len(shapes[files[0]]) == 1:
        return True
    raise ValueError(
        f"{folder} does not tell whether its .npz files are images or layers: neither {files[0].name} nor"
        f" {next(iter(shapes[files[0]]))!r} in it is the name of an image, and all arrays have one shape"
    )


def _stacked(
    layer: str, places: Sequence[tuple[Path, str]], found: Sequence[tuple[tuple[int, ...], Any]]
) -> StoredArray:
    """Return the arrays of all images as one; the batch of one image that Net2Brain keeps is no axis."""
    shape, dtype = found[0]
    for (file, name), (other, _) in zip(places, found, strict=True):
        if other != shape:
            raise ValueError(
                f"{file}, {name!r} has shape {other}, but {places[0][0].name}, {places[0][1]!r} has {shape}; images of"
                f" the layer {layer!r} need one shape"
            )
    is_batch = len(shape) > 1 and shape[0] == 1
    of_one = shape[1:] if is_batch else shape
    read = partial(_read_images, tuple(places), is_batch)
    return StoredArray((len(places), *of_one), dtype, read)


def _read_images(
    places: Sequence[tuple[Path, str]], is_batch: bool, part: tuple[slice, ...]
) -> NDArray[Any]:
    chosen = places[part[0]]
    of_one = (*((slice(None),) if is_batch else ()), *part[1:])
    rows: list[NDArray[Any]] = []
    by_file: dict[Path, list[str]] = {}
    for file, name in chosen:
        by_file.setdefault(file, []).append(name)
    for file, names in by_file.items():
        rows += read_members(file, names, of_one)
    array = np.stack(rows)
    return array[:, 0] if is_batch else array


def _of_thingsvision(folder: Path, by_layer: Mapping[str, Sequence[Path]]) -> FolderArrays:
    names: tuple[str, ...] | None = None
    arrays: dict[str, StoredArray] = {}
    for layer, paths in by_layer.items():
        listed = _listed(paths[0].parent, folder)
        parts: list[StoredArray] = []
        own: list[str] = []
        for path in paths:
            found, keys = _of_part(path)
            parts += found
            own += keys
        arrays[layer] = parts[0] if len(parts) == 1 else _joined(layer, parts, paths)
        # Rows have the order of the variables, which are the images.
        if own and (listed is None or sorted(map(_stem, own)) == sorted(map(_stem, listed))):
            listed = tuple(own)
        names = names or listed
        if listed is not None and listed != names:
            raise ValueError(
                f"{paths[0].parent} has other names of images, or another order, than the first layer of {folder};"
                " score its folder alone"
            )
    return arrays, names


def _listed(layer: Path, folder: Path) -> tuple[str, ...] | None:
    """Return the names of images in a layer's folder, or else in those above; None if none of them has the file."""
    above = (layer, folder, folder.parent)
    path = next((each / _NAMES for each in above if (each / _NAMES).is_file()), None)
    if path is None:
        return None
    lines = (line.strip() for line in read_lines(path, str(path)))
    return tuple(line for line in lines if line)


def _of_part(path: Path) -> tuple[list[StoredArray], list[str]]:
    """Return the arrays of a file, in order, and the names of the rows that it has itself."""
    if path.suffix == ".txt":
        return [_in_memory(np.loadtxt(path, ndmin=2))], []
    if path.suffix == ".pt":
        torch = require("torch", "export", "to read features that torch saved")
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"{path} holds a {type(value).__name__}, not a tensor of features")
        # Types that NumPy lacks, such as bfloat16, are within float32.
        value = value if value.dtype == torch.float64 else value.float()
        return [_in_memory(value.numpy())], []
    if path.suffix != ".mat":
        stored = open_arrays(path).arrays
        return [stored[key] for key in sorted(stored)], []
    contents = open_contents(path)
    keys = [key for key, entry in contents.entries.items() if entry.kind == NUMBERS]
    if keys == ["features"]:
        return [_in_memory(np.asarray(contents.read("features")))], []
    # A variable for each image, which MATLAB stores as a row.
    rows = [np.asarray(contents.read(key)) for key in keys]
    return [_in_memory(np.stack([row[0] if len(row) == 1 else row for row in rows]))], keys


def _in_memory(array: NDArray[Any]) -> StoredArray:
    return StoredArray(array.shape, array.dtype, partial(_part_of, array))


def _part_of(array: NDArray[Any], part: tuple[slice, ...]) -> NDArray[Any]:
    return np.asarray(array[part])


def _joined(layer: str, parts: Sequence[StoredArray], paths: Sequence[Path]) -> StoredArray:
    """Return the parts of a layer, one after the other."""
    shape = parts[0].shape[1:]
    if any(each.shape[1:] != shape for each in parts):
        shapes = list_names((str(each.shape) for each in parts), 4)
        raise ValueError(
            f"the parts of the layer {layer!r} in {paths[0].parent} differ in shape: {shapes}"
        )
    n_rows = sum(each.shape[0] for each in parts)
    return StoredArray(
        (n_rows, *shape), parts[0].dtype, partial(_read_parts, tuple(parts)), parts[0].chunk
    )


def _read_parts(parts: Sequence[StoredArray], part: tuple[slice, ...]) -> NDArray[Any]:
    start, stop, _ = part[0].indices(sum(each.shape[0] for each in parts))
    found: list[NDArray[Any]] = []
    at = 0
    for each in parts:
        low, high = max(start - at, 0), min(stop - at, each.shape[0])
        if low < high:
            found.append(each.read((slice(low, high), *part[1:])))
        at += each.shape[0]
    return np.concatenate(found)
