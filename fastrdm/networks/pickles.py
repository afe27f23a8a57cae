"""Files of `torch.save`, read without running any code that is in them.

torch reads tensors and plain values. Objects beside the weights whose types are in a list of harmless ones, such as
NumPy scalars, Namespaces and paths, are skipped: inert objects take their places. Files with any other object are
refused, and the message names the object's type.
"""

import pickle
import tarfile
import threading
import zipfile
from pathlib import Path
from typing import Any

from fastrdm._base import (
    check_expansion,
    check_members,
    encodable,
    first_line,
    first_sentence,
    list_names,
    require,
)
from fastrdm.networks.errors import WeightsError
from fastrdm.networks.pickle_contents import GETATTR, ZIP, PickledObjects, inspect_pickle

_DAMAGED = "truncated, damaged or not a file of torch.save"
# The allow-list is global in torch.
_LOCK = threading.Lock()
# Modules with functions that a weight file has no harmless reason to call.
_RUNNING = {
    *("os", "posix", "nt", "sys", "subprocess", "io", "_io", "shutil", "socket", "importlib"),
    *("runpy", "pty", "ctypes", "webbrowser", "pickle", "_pickle", "marshal", "code", "codeop"),
    *("timeit", "pdb", "bdb", "profile", "cProfile", "asyncio", "multiprocessing", "platform"),
    *("builtins", "__builtin__", "operator", "tempfile", "urllib.request", "torch.hub"),
}
# Packages of which no module has such a reason.
_RUNNING_PACKAGES = {
    *("importlib", "ctypes", "asyncio", "multiprocessing", "concurrent", "distutils", "http"),
    *("commands", "popen2", "threading", "xmlrpc", "pip", "setuptools", "ensurepip", "venv"),
}
_HARMLESS = {
    *(
        "argparse.Namespace",
        "types.SimpleNamespace",
        "collections.defaultdict",
        "collections.deque",
    ),
    *("datetime.datetime", "datetime.date", "datetime.time", "datetime.timedelta"),
    *(
        "datetime.timezone",
        "decimal.Decimal",
        "fractions.Fraction",
        "uuid.UUID",
        "zoneinfo.ZoneInfo",
    ),
    *(f"builtins.{name}" for name in ("dict", "list", "tuple", "int", "float", "str", "bool")),
    *(
        "builtins.bytes",
        "builtins.object",
        "builtins.frozenset",
        "builtins.range",
        "builtins.slice",
    ),
    *("numpy.dtype", "numpy.ndarray", "signal.Signals", "http.HTTPStatus"),
    "torch.torch_version.TorchVersion",
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
    *(
        f"{module}.{name}"
        for module in ("pathlib", "pathlib._local")
        for name in ("Path", "PosixPath", "WindowsPath")
        for name in (name, f"Pure{name}")
    ),
}
# Prefixes of other harmless types, which describe a run.
_DESCRIPTIONS = (
    *("lightning.", "lightning_fabric.", "pytorch_lightning.", "numpy.random.", "PIL.Image."),
    "torchvision.transforms.",
)


def read_torch(path: Path) -> Any:
    """Read a file of `torch.save`, on the CPU and mapped if its format allows; raise WeightsError."""
    torch = require("torch", "export", "to read weights")
    mapped = _is_mappable(path)
    objects = inspect_pickle(path)
    if objects.damage:
        # torch would read on where the inspection ends.
        raise WeightsError(_damage(path, objects))
    _check_size(path, objects)

    def load() -> Any:
        # Its warning about another pickle protocol is not suppressed: that would suppress the warnings of
        # all threads.
        if encodable(str(path)) == str(path):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        # torch maps files with names in UTF-8 only.
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)

    try:
        return load()
    # Damaged files raise UnpicklingError, RuntimeError, EOFError, OSError, IndexError and more.
    except Exception as error:
        if "TorchScript" in str(error):
            raise WeightsError(
                f"{path}: is a TorchScript archive, not weights; save its weights alone: "
                f'torch.save(torch.jit.load("{path}").state_dict(), "weights.pth")'
            ) from error
        if code := _code(objects, set()):
            raise WeightsError(_would_run(path, code)) from error
        if not isinstance(error, pickle.UnpicklingError):
            raise WeightsError(f"{path}: {_DAMAGED}: {first_sentence(error)}") from error
    harmless = [name for name in objects.names if _is_harmless(name)]
    if objects.has_members and GETATTR not in objects.names:
        harmless.append(GETATTR)
    try:
        with _LOCK, torch.serialization.safe_globals([_stand_in(name) for name in harmless]):
            return load()
    except Exception as error:
        raise WeightsError(_refusal(path, objects, set(harmless), error)) from error


def _is_mappable(path: Path) -> bool:
    """Whether a file is an archive whose members are not compressed."""
    with path.open("rb") as file:
        if file.read(len(ZIP)) != ZIP:
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            check_members(members, path.stat().st_size)
    # zipfile raises NotImplementedError for archives that ask for a newer version of the format.
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        # torch reports what is wrong with it.
        return True
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    return all(member.compress_type == zipfile.ZIP_STORED for member in members)


def _check_size(path: Path, objects: PickledObjects) -> None:
    """Raise WeightsError if torch would reserve far more memory than the file takes."""
    for n_bytes, what in ((objects.n_bytes, "its contents"), (objects.n_stored, "its tensors")):
        try:
            check_expansion(n_bytes, path.stat().st_size, what)
        except ValueError as error:
            raise WeightsError(f"{path}: {error}") from error


def _code(objects: PickledObjects, known: set[str]) -> str:
    """The first function in a pickle that runs code, except known ones; empty if there is none."""
    for name in objects.names:
        module, _, function = name.rpartition(".")
        runs = module in _RUNNING or module.partition(".")[0] in _RUNNING_PACKAGES
        if runs and name not in known | objects.plain and not _is_harmless(name):
            return f"os.{function}" if module in {"posix", "nt"} else name
    return ""


def _damage(path: Path, objects: PickledObjects) -> str:
    """Why a file was not read whose pickle ends early, in one sentence."""
    if code := _code(objects, set()):
        return _would_run(path, code)
    with path.open("rb") as file:
        # Also an empty tar archive.
        if not any(file.read(tarfile.BLOCKSIZE)):
            return f"{path}: damaged: it begins with zeros, as files may after a power cut"
    if tarfile.is_tarfile(path):
        return (
            f"{path}: is a tar archive of an old torch, which cannot be read without running code; if you trust it,"
            f' save it again: torch.save(torch.load("{path}", weights_only=False), "weights.pth")'
        )
    return f"{path}: {_DAMAGED}: {objects.damage}"


def _would_run(path: Path, code: str) -> str:
    return f"{path}: refused without running it, because reading it would run code: {code}"


def _refusal(path: Path, objects: PickledObjects, known: set[str], error: Exception) -> str:
    """Why a file was not read, in one sentence."""
    whole = f'torch.load("{path}", weights_only=False)'
    if code := _code(objects, known):
        return _would_run(path, code)
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


def _is_harmless(name: str) -> bool:
    return name in _HARMLESS or name.startswith(_DESCRIPTIONS)


def _stand_in(name: str) -> type:
    """A class under a name in the file, which takes any arguments and state, and does nothing with them."""
    module, _, own = name.rpartition(".")
    # torch adds items to plain dicts and lists alone.
    plain: type | None = dict if own.lower().endswith("dict") else list if own == "deque" else None
    content = {
        "__module__": module,
        "__qualname__": own,
        "__new__": lambda cls, *args, **kwargs: plain() if plain else object.__new__(cls),
        "__init__": lambda self, *args, **kwargs: None,
        "__setstate__": lambda self, state: None,
    }
    return type(own, (), content)
