"""The checkpoints that files, folders, globs and lists of paths name at present."""

import contextlib
import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastrdm._base import existing_name, list_names, open_regular, unescaped
from fastrdm.networks import WeightsError, files_of, holds_index, is_checkpoint, is_onnx, is_shard

# Ending of a file of weights beside an .onnx file.
_DATA = ".data"
_LISTS = (".txt", ".lst")
_SHOWN = 3
# What the Trainer of transformers and accelerate save beside the weights.
_TRAINING_STATE = re.compile(
    r"(optimizer|scheduler|scaler|random_states|sampler|rng_state|training_args|trainer_state)(_\d+)*\.\w+"
)
# The Trainer of transformers saves each checkpoint in a folder of its own.
_SAVED_FOLDER = re.compile(r"checkpoint-\d+")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint's path, and the row of the list or manifest that names it; empty if none does."""

    path: str
    row: str = ""


@dataclass(frozen=True)
class LeftOut:
    """Files in a folder or glob that are not checkpoints: why, how many, the first names, and a message."""

    where: str
    reason: str
    count: int
    names: tuple[str, ...]
    message: str

    @classmethod
    def of(cls, where: str, reason: str, names: Sequence[str]) -> "LeftOut":
        """Describe files that are left out."""
        message = f"{where}: {len(names)} left out, {reason}: {list_names(names, _SHOWN)}"
        return cls(where, reason, len(names), tuple(names[:_SHOWN]), message)


@dataclass(frozen=True)
class Listing:
    """What exists at one time: checkpoints in the order given, folders and globs sorted; files left out.

    `empty` has folders, globs and lists without a checkpoint, each with an error message.
    """

    found: list[FoundCheckpoint] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    empty: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, row: str = "") -> None:
        """Add a file, a folder, a list, or a glob if no path has exactly this name; also a name as messages show it."""
        name = existing_name(name)
        path = Path(name)
        if not os.path.lexists(name) and glob.has_magic(name):
            # pathlib's globs skip hidden files under `**` and reject absolute patterns.
            names = glob.glob(_pattern(name), recursive=True)  # noqa: PTH207
            if not names and (plain := unescaped(name)) != name and "\0" not in plain:
                names = glob.glob(_pattern(plain), recursive=True)  # noqa: PTH207
            names = _with_saved_folders(names)
            if "**" in name:
                names = [each for each in names if is_checkpoint(each) or not _is_plain(each)]
            self._sort_out(name, row, sorted(names), "no file matches {}")
        # A folder that is named like a checkpoint is an unreadable checkpoint, and must be reported.
        elif path.is_dir() and not is_checkpoint(name) and not holds_index(name):
            # Strings take a fifth of pathlib's time for a hundred thousand files.
            names = [os.path.join(name, each) for each in sorted(os.listdir(name))]  # noqa: PTH118, PTH208
            self._sort_out(name, row, names, "there is no checkpoint in {}", skip_hidden=True)
        elif path.suffix.lower() in _LISTS and (path.is_file() or not row):
            self._add_rows(name)
        else:
            self.found.append(FoundCheckpoint(name, row))

    def _sort_out(
        self, given: str, row: str, names: Sequence[str], problem: str, skip_hidden: bool = False
    ) -> None:
        """Separate the checkpoints of a folder or glob from other files."""
        reasons: dict[str, list[str]] = {}
        n_before = len(self.found)
        of_graphs = _files_of_graphs(names)
        for name in _with_shards_joined(names):
            base = os.path.basename(name)  # noqa: PTH119
            weights = name.lower().removesuffix(_DATA)
            if Path(name) in of_graphs:
                continue
            # A glob matches hidden files only if its pattern starts with a dot.
            if skip_hidden and base.startswith("."):
                reasons.setdefault("hidden", []).append(base)
            elif is_shard(base):
                reasons.setdefault("parts of weights without their index", []).append(base)
            elif base.endswith(".distcp"):
                reason = (
                    "parts of a distributed checkpoint, which dcp_to_torch_save of "
                    "torch.distributed.checkpoint.format_utils joins"
                )
                reasons.setdefault(reason, []).append(base)
            elif is_checkpoint(name) and _TRAINING_STATE.fullmatch(base):
                reasons.setdefault("state of the training, not weights", []).append(base)
            elif is_checkpoint(name) or holds_index(name):
                self.found.append(FoundCheckpoint(name, row))
            elif os.path.isdir(name):  # noqa: PTH112
                reasons.setdefault("folders, which a glob with ** looks into", []).append(base)
            elif not (is_onnx(weights) and os.path.exists(name[: len(weights)])):  # noqa: PTH110
                reasons.setdefault("not named as weights", []).append(base)
        self.left_out.extend(LeftOut.of(given, reason, rest) for reason, rest in reasons.items())
        if len(self.found) == n_before:
            prefix = f"{row}: " if row else ""
            self.empty.append((given, prefix + problem.format(given)))

    def _add_rows(self, path: str) -> None:
        """Add the rows of a list."""
        try:
            with open_regular(path) as file:
                content = file.read()
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: no such list of checkpoints") from None
        if b"\0" in content or content.startswith(_UTF_16):
            raise ValueError(f"{path} is not UTF-8 text, so it is not a list of checkpoints")
        # Spreadsheets write a byte-order mark. Names of files need not be UTF-8.
        text = content.decode("utf-8-sig", "surrogateescape")
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if not any(map(str.strip, lines)):
            self.empty.append((path, f"{path} lists no checkpoint"))
        for number, line in enumerate(lines, 1):
            if line.strip():
                self.add(line.strip(), f"{path}, line {number}")


def _files_of_graphs(names: Sequence[str]) -> set[Path]:
    """The files in which `.onnx` files keep weights, whatever their names."""
    found: set[Path] = set()
    for name in filter(is_onnx, names):
        # What cannot be right fails when the checkpoint is scored.
        with contextlib.suppress(WeightsError):
            found.update(files_of(name)[1:])
    return found


def _is_plain(path: str) -> bool:
    """Whether a path is a folder that is no checkpoint."""
    return os.path.isdir(path) and not holds_index(path)  # noqa: PTH112


def _with_saved_folders(names: Sequence[str]) -> list[str]:
    """Names that match a glob, with the files in the folders of the Trainer of transformers in their place."""
    found = []
    for name in names:
        base = os.path.basename(name)  # noqa: PTH119
        if _SAVED_FOLDER.fullmatch(base) and _is_plain(name):
            inner = (each for each in os.listdir(name) if not each.startswith("."))  # noqa: PTH208
            found += [os.path.join(name, each) for each in inner]  # noqa: PTH118
        else:
            found.append(name)
    return list(dict.fromkeys(found))


def _with_shards_joined(names: Sequence[str]) -> Iterator[str]:
    """Yield names, with the folder that holds an index in place of the files in it."""
    folders = {each: holds_index(each or ".") for each in {os.path.dirname(name) for name in names}}  # noqa: PTH120
    joined = [each for each, is_joined in folders.items() if is_joined]
    if not joined:
        yield from names
        return
    seen = set()
    for name in names:
        folder = os.path.dirname(name)  # noqa: PTH120
        whole = (folder or ".") if folders[folder] and not os.path.isdir(name) else name  # noqa: PTH112
        if whole not in seen:
            seen.add(whole)
            yield whole


def _pattern(text: str) -> str:
    """A glob in which the leading folders that exist are literal, whatever brackets they contain."""
    ends = [k for k, character in enumerate(text) if character in {os.sep, os.altsep}]
    literal = max((end for end in ends if os.path.lexists(text[:end])), default=0)
    return glob.escape(text[:literal]) + text[literal:]
