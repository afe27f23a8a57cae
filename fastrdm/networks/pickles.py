"""Files of `torch.save`, read without running any code that is in them.

torch reads tensors and plain values. Harmless objects beside the weights, such as NumPy scalars, Namespaces and paths,
are read by an allow-list; files with any other object are refused, and the message names the object's type.
"""

import argparse
import datetime
import decimal
import fractions
import importlib
import pathlib
import pickle
import threading
import types
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastrdm._base import first_line, first_sentence, list_names, require
from fastrdm.networks.errors import WeightsError
from fastrdm.networks.pickle_contents import PickledObjects, inspect_pickle

# Only torch's newer files can be mapped: they are uncompressed zip archives.
ZIP = b"PK\x03\x04"
# The allow-list is global in torch.
_LOCK = threading.Lock()
# Modules whose functions a weight file can call for no harmless reason.
_RUNNING = {
    *("os", "posix", "nt", "sys", "subprocess", "io", "_io", "shutil", "socket", "importlib"),
    *("runpy", "pty", "ctypes", "webbrowser", "pickle", "_pickle", "marshal", "code", "codeop"),
    *("timeit", "pdb", "bdb", "profile", "cProfile", "asyncio", "multiprocessing", "platform"),
    *("builtins", "__builtin__", "operator", "tempfile", "urllib.request", "torch.hub"),
}
# Prefixes of classes that only describe a run; inert objects replace them.
_DESCRIPTIONS = (
    *("lightning.", "lightning_fabric.", "pytorch_lightning.", "numpy.random.", "PIL.Image."),
    "torchvision.transforms.",
)


def read_torch(path: Path) -> Any:
    """Read a file of `torch.save`, on the CPU and mapped if its format allows; raise WeightsError."""
    torch = require("torch", "export", "to read weights")
    with path.open("rb") as file:
        mapped = file.read(len(ZIP)) == ZIP

    def load() -> Any:
        # Its warning about another pickle protocol is not suppressed: that would suppress the warnings of
        # all threads.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)

    try:
        return load()
    # Damaged files raise UnpicklingError, RuntimeError, EOFError, OSError, IndexError and more.
    except Exception as error:
        if "TorchScript" in str(error):
            raise WeightsError(
                f"{path}: is a TorchScript archive, not weights; save its weights alone: "
                f'torch.save(torch.jit.load("{path}").state_dict(), "weights.pth")'
            ) from error
        objects = inspect_pickle(path) if isinstance(error, pickle.UnpicklingError) else None
        if objects is None:
            raise WeightsError(
                f"{path}: truncated, damaged or not a file of torch.save: {first_sentence(error)}"
            ) from error
        refused: Exception = error
    harmless = list(_harmless(objects))
    try:
        with _LOCK:
            # Those of the caller must stay when ours are removed.
            already = torch.serialization.get_safe_globals()
            added = [each for each in harmless if each not in already]
            with torch.serialization.safe_globals(added):
                return load()
    except Exception as error:
        refused = error
    known = {f"{each.__module__}.{each.__qualname__}" for each in harmless}
    raise WeightsError(_refusal(path, objects, known, refused)) from refused


def _refusal(path: Path, objects: PickledObjects, known: set[str], error: Exception) -> str:
    """Why a file was not read, in one sentence."""
    whole = f'torch.load("{path}", weights_only=False)'
    for name in objects.names:
        module, _, function = name.rpartition(".")
        if module in _RUNNING and name not in known | objects.plain:
            shown = f"os.{function}" if module in {"posix", "nt"} else name
            return f"{path}: refused without running it, because reading it would run code: {shown}"
    if objects.networks:
        place, kind = next(iter(objects.networks.items()))
        return (
            f"{path}: refused without running it, because it holds a whole pickled network ({kind}), not its weights;"
            f" if you trust the file, save its weights alone: model = {whole}{place};"
            ' torch.save(model.state_dict(), "weights.pth")'
        )
    unknown = [
        f"{kind} in {place}" if place else kind
        for kind, place in objects.places.items()
        if kind not in known
    ]
    if not unknown:
        reason = str(error).partition("WeightsUnpickler error:")[2].strip() or str(error)
        if reason.startswith("Unsupported operand"):
            return (
                f"{path}: is pickled with a protocol that torch does not read safely; if you trust the file, save it "
                f'again: torch.save({whole}{objects.weights}, "weights.pth")'
            )
        return f"{path}: cannot be read without running code: {first_line(ValueError(reason))}"
    return (
        f"{path}: refused without running it, because it holds objects other than tensors and plain values: "
        f"{list_names(unknown)}; if you trust the file, save the weights alone: "
        f'torch.save({whole}{objects.weights}, "weights.pth")'
    )


def _harmless(objects: PickledObjects) -> Iterator[Callable[..., Any]]:
    """Yield what torch may call for the names in a file, under these names."""
    for name in objects.names:
        if name in _ALLOWED:
            yield from _ALLOWED[name]()
        elif name.startswith(_DESCRIPTIONS):
            yield _inert(name)


def _renamed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that torch finds under the name in the file."""

    def call(*args: Any) -> Any:
        return function(*args)

    call.__module__, _, call.__qualname__ = name.rpartition(".")
    return call


def _inert(name: str) -> type:
    """A class that takes any arguments and state, and does nothing with them."""
    module, _, own = name.rpartition(".")
    # torch sets items of plain dicts alone.
    is_dict = own.endswith("Dict")
    content = {
        "__module__": module,
        "__qualname__": own,
        "__new__": lambda cls, *args, **kwargs: {} if is_dict else object.__new__(cls),
        "__init__": lambda self, *args, **kwargs: None,
        "__setstate__": lambda self, state: None,
    }
    return type(own, (), content)


def _scalar(dtype: np.dtype[Any], data: Any = None) -> Any:
    """A NumPy scalar; objects are left out, which NumPy would read from memory."""
    if dtype.hasobject or not isinstance(data, bytes | str):
        raise pickle.UnpicklingError(f"a NumPy scalar of type {dtype} is not read")
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype)[0]


def _numpy(name: str) -> list[Callable[..., Any]]:
    multiarray = importlib.import_module("numpy._core.multiarray" if _is_new() else _OLD)
    function = _scalar if name.endswith(".scalar") else multiarray._reconstruct
    # The classes of dtypes, which are restored by their own __setstate__.
    return [_renamed(name, function), *_arrays()]


def _dtype_classes() -> list[type]:
    kinds = (*"?bBhHiIlLqQefdgFDG", "S", "U", "M8[s]", "m8[s]", "V", "O")
    return list({type(np.dtype(kind)) for kind in kinds})


_OLD = "numpy.core.multiarray"


def _is_new() -> bool:
    return int(np.__version__.split(".")[0]) >= 2


def _as_is(each: type) -> list[Callable[..., Any]]:
    return [each]


def _by_name(name: str, *functions: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The first function under a name, and others under their own."""
    return [_renamed(name, functions[0]), *functions[1:]]


def _arrays() -> list[Callable[..., Any]]:
    return [np.ndarray, np.dtype, *_dtype_classes()]


def _torch_version() -> list[Callable[..., Any]]:
    return [importlib.import_module("torch.torch_version").TorchVersion]


# torch adds items to plain dicts and lists alone.
def _plain_dict(*factory: Any) -> dict[Any, Any]:
    return {}


def _plain_list(items: Sequence[Any] = (), *length: Any) -> list[Any]:
    return list(items)


def _table() -> dict[str, Callable[[], list[Callable[..., Any]]]]:
    """Harmless names and what they stand for."""
    classes: tuple[type, ...] = (
        *(argparse.Namespace, types.SimpleNamespace),
        *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone),
        *(decimal.Decimal, fractions.Fraction, uuid.UUID, frozenset, range, slice),
        *(pathlib.PurePath, dict, list, tuple, int, float, str, bool, bytes, object),
    )
    table: dict[str, Callable[[], list[Callable[..., Any]]]] = {
        f"{each.__module__}.{each.__qualname__}": partial(_as_is, each) for each in classes
    }
    table["collections.defaultdict"] = partial(_by_name, "collections.defaultdict", _plain_dict)
    table["collections.deque"] = partial(_by_name, "collections.deque", _plain_list)
    # A path of another system cannot be made, and is not needed.
    for module in ("pathlib", "pathlib._local"):
        for system in ("Posix", "Windows"):
            pure = getattr(pathlib, f"Pure{system}Path")
            for name in (f"{module}.{system}Path", f"{module}.Pure{system}Path"):
                table[name] = partial(_by_name, name, pure, pure)
    for package in ("numpy.core", "numpy._core"):
        for function in ("scalar", "_reconstruct"):
            name = f"{package}.multiarray.{function}"
            table[name] = partial(_numpy, name)
    for name in ("signal.Signals", "http.HTTPStatus"):
        table[name] = partial(_as_is, _inert(name))
    table["numpy.dtype"] = table["numpy.ndarray"] = _arrays
    table["torch.torch_version.TorchVersion"] = _torch_version
    return table


_ALLOWED = _table()
