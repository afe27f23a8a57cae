"""Weights in several files: the index that names them, and the files of a checkpoint.

An index is the JSON that transformers and diffusers write, such as `model.safetensors.index.json`; it names the file of
each tensor, all in its own folder. The folder that holds an index is one checkpoint.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from fastrdm._base import list_names, read_json
from fastrdm.networks.errors import WeightsError
from fastrdm.networks.external_data import external_files, is_inside
from fastrdm.networks.onnx_files import is_onnx

INDEX_SUFFIXES = (".safetensors.index.json", ".bin.index.json")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.(safetensors|bin)$")
_NAMES = ("model", "pytorch_model", "diffusion_pytorch_model")


def is_index(path: str | Path) -> bool:
    """Whether a file name is that of an index."""
    return str(path).lower().endswith(INDEX_SUFFIXES)


def is_shard(path: str | Path) -> bool:
    """Whether a file name is that of one of several files of weights."""
    return bool(_SHARD.search(str(path).lower()))


def indices_in(names: list[str]) -> list[str]:
    """The indices among the names in a folder, the one that transformers would read first."""
    rank = [f"{name}{suffix}" for suffix in INDEX_SUFFIXES for name in _NAMES]
    found = [name for name in names if is_index(name)]
    return sorted(found, key=lambda n: (rank.index(n) if n in rank else len(rank), n))


def find_index(path: str | Path) -> Path | None:
    """The index that a path names, by itself or by its folder; None for other files and folders.

    Raise WeightsError if the folder holds several indices and none has a standard name.
    """
    if is_index(path):
        return Path(path)
    try:
        names = indices_in(os.listdir(path))  # noqa: PTH208
    except OSError:
        return None
    if not names:
        return None
    if len(names) > 1 and names[0].removesuffix(_suffix_of(names[0])) not in _NAMES:
        raise WeightsError(f"{path}: holds several indices, name one of them: {list_names(names)}")
    return Path(path) / names[0]


def holds_index(folder: str | Path) -> bool:
    """Whether a folder holds an index, so that it is one checkpoint."""
    try:
        return bool(indices_in(os.listdir(folder)))  # noqa: PTH208
    except OSError:
        return False


def read_index(index: Path) -> dict[str, Path]:
    """Return the file of each tensor; raise WeightsError if the index is damaged, or a file is outside its folder."""
    try:
        content = read_json(index)
        files = content["weight_map"]
        if not (isinstance(files, dict) and all(isinstance(each, str) for each in files.values())):
            raise ValueError
    except FileNotFoundError:
        raise WeightsError(f"{index}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise WeightsError(
            f"{index}: is not an index of weights, which maps tensors to files under weight_map"
        ) from None
    if not files:
        raise WeightsError(f"{index}: lists no tensors")
    # Links are followed, as those of the hub's cache must be.
    for name in set(files.values()):
        if not is_inside(name):
            raise WeightsError(f"{index}: refers to a file outside its folder: {name}")
    return {name: index.parent / file for name, file in files.items()}


def shards_of(files: Mapping[str, Path]) -> dict[Path, list[str]]:
    """Tensors by file, the files sorted by name."""
    shards: dict[Path, list[str]] = {}
    for name, file in files.items():
        shards.setdefault(file, []).append(name)
    return {file: shards[file] for file in sorted(shards)}


def files_of(path: str | Path) -> list[Path]:
    """Return all files of a checkpoint: its file, those to which an `.onnx` file refers, an index and its shards.

    The FILE.data of an `.onnx` file comes second, and belongs to it even if the graph does not refer to it. Raise
    WeightsError as `read_index` and `external_files` do.
    """
    path = Path(path)
    index = find_index(path)
    if index is not None:
        return [index, *shards_of(read_index(index))]
    if not is_onnx(path):
        return [path]
    beside, external = Path(f"{path}.data"), external_files(path)
    first = [beside] if beside in external or beside.is_file() else []
    return [path, *first, *(file for file in external if file != beside)]


def _suffix_of(name: str) -> str:
    return next(suffix for suffix in INDEX_SUFFIXES if name.lower().endswith(suffix))
