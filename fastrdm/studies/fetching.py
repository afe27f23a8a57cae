"""Public data → a folder, by pooch: each file checked, resumed after an interruption, archives unpacked."""

import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastrdm._base import (
    check_choice,
    check_writable_folder,
    json_text,
    new_text_file,
    read_json,
    require,
)
from fastrdm.studies.downloading import Downloader, check_address
from fastrdm.studies.public_data import PUBLIC_DATA, PublicData, RemoteFile
from fastrdm.studies.unpacking import unpack

#: Called with a file's name, its bytes that are there, and all of them, or None if unknown.
FetchProgress = Callable[[str, int, int | None], None]

RECORD = "fastrdm-fetch.json"
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


@dataclass(frozen=True)
class FetchedFile:
    """A file that is there, and how it was checked."""

    name: str
    path: Path
    n_bytes: int
    sha256: str
    #: "given" (in `checksums`), "recorded" (by an earlier fetch) or "first": nothing to compare with.
    checked: str
    #: Bytes that an earlier, interrupted fetch had left; 0 if none.
    resumed_at: int = 0


def fetch_data(
    name: str,
    folder: str | Path,
    *,
    accept_licence: bool = False,
    base_url: str | None = None,
    checksums: Mapping[str, str] | None = None,
    progress: FetchProgress | None = None,
) -> list[FetchedFile]:
    """Fetch public data into a folder; files that are there and unchanged are not fetched again.

    A file is checked against its SHA-256 in `checksums`, else against that which the first fetch has recorded in
    ``fastrdm-fetch.json`` in the folder. Interrupted downloads go on where they stopped, if the server can. Archives
    are unpacked into the folder and kept.

    Parameters
    ----------
    name : str
        A key of ``PUBLIC_DATA``: ``algonauts2019``, ``nsd-shared``, ``things-fmri``.
    folder : path-like
        Target, made if it is missing.
    accept_licence : bool
        Whether the user has read and accepts the licence, ``PUBLIC_DATA[name].licence``.
    base_url : str, optional
        Address (http, https, file) below which the files lie, for example that of a mirror.
    checksums : mapping, optional
        File name → SHA-256, in hexadecimal digits.
    progress : callable, optional
        Called with a file's name, the bytes that have come, and all of its bytes, or None.

    Returns
    -------
    list of FetchedFile

    Raises
    ------
    PermissionError
        If the licence is not accepted.
    ValueError
        If the name is unknown, no address is known and `base_url` is not given, `checksums` are malformed or name no
        file of the data, or a file has another checksum: it is deleted.
    OSError
        If a server or file cannot be reached after five tries.
    MissingExtraError
        If pooch is not installed.
    """
    check_choice(name, PUBLIC_DATA, "name")
    data = PUBLIC_DATA[name]
    if not accept_licence:
        raise PermissionError(
            f"{name} has a licence: {data.licence} ({data.page}) Read it, and pass accept_licence=True"
        )
    base = data.base_url if base_url is None else base_url
    if base is None:
        raise ValueError(
            f"{name}: {data.notice}; download {data.files[0].name} from {data.page} and pass its folder as base_url,"
            " such as file:///home/me/Downloads"
        )
    check_address(base)
    given = _checked_sums(checksums or {})
    pooch = require("pooch", "fetch", "to fetch public data")
    pooch.get_logger().setLevel("ERROR")
    folder = Path(folder)
    check_writable_folder(folder, "folder")
    folder.mkdir(parents=True, exist_ok=True)
    record = _FetchRecord(folder / RECORD, name)
    found = []
    try:
        for file in _files(data, folder):
            address = file.url if base_url is None and file.url else _join(base, file.path)
            known = (given.get(file.name), record.sums.get(file.name))
            found.append(_fetch(pooch, file, folder, address, known, progress))
            record.sums[file.name] = found[-1].sha256
    finally:
        record.write()
    if unknown := given.keys() - {file.name for file in found}:
        raise ValueError(f"checksums name {min(unknown)!r}, which is no file of {name}")
    return found


def _files(data: PublicData, folder: Path) -> Iterator[RemoteFile]:
    yield from data.files
    if data.more is not None:
        yield from data.more(folder)


def _fetch(
    pooch: Any,
    file: RemoteFile,
    folder: Path,
    address: str,
    known: tuple[str | None, str | None],
    progress: FetchProgress | None,
) -> FetchedFile:
    path = folder / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    expected = known[0] or known[1]

    def show(done: int, total: int | None) -> None:
        if progress is not None:
            progress(file.name, done, total)

    downloader = Downloader(path, show)
    try:
        pooch.retrieve(
            address,
            known_hash=expected and f"sha256:{expected}",
            fname=path.name,
            path=path.parent,
            downloader=downloader,
        )
    except ValueError as error:
        if expected is None:
            raise
        source = "checksums" if known[0] else RECORD
        raise ValueError(
            f"{address} has another SHA-256 than {source} says ({expected}), so it was deleted: the download is"
            " damaged, or the owner has changed the file"
        ) from error
    sha256 = pooch.file_hash(str(path), alg="sha256")
    size = path.stat().st_size
    if file.unpack:
        try:
            unpack(path, folder)
        except ValueError as error:
            if not downloader.has_fetched:
                raise ValueError(f"{error}; delete it, and fetch it again") from error
            path.unlink()
            raise ValueError(f"{error}; it was deleted, and the next fetch gets it anew") from error
    checked = "given" if known[0] else "recorded" if known[1] else "first"
    return FetchedFile(file.name, path, size, sha256, checked, downloader.resumed_at)


def _join(base: str, path: str) -> str:
    return f"{base.rstrip('/')}/{urllib.parse.quote(path)}"


def _checked_sums(checksums: Mapping[str, str]) -> dict[str, str]:
    sums = {}
    for name, value in checksums.items():
        match = _SHA256.fullmatch(str(value))
        if match is None:
            raise ValueError(
                f"checksums has {value!r} for {name!r}; expected a SHA-256 of 64 digits"
            )
        sums[name] = match[1].lower()
    return sums


class _FetchRecord:
    """The checksums of an earlier fetch into a folder."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.sums: dict[str, str] = {}
        if not path.exists():
            return
        try:
            content = read_json(path)
            self.sums = _checked_sums(content["sha256"])
            earlier = content["name"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is damaged; delete it to record the checksums anew"
            ) from error
        if earlier != name:
            raise ValueError(f"{path.parent} holds {earlier}; name another folder for {name}")

    def write(self) -> None:
        """Write the checksums known so far."""
        if self.sums:
            with new_text_file(self.path) as file:
                file.write(json_text({"name": self.name, "sha256": self.sums}) + "\n")


def read_checksums(path: str | Path) -> dict[str, str]:
    """Read a list as `sha256sum` writes it: file name → SHA-256."""
    sums = {}
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            digits, _, name = line.strip().partition(" ")
            if not _SHA256.fullmatch(digits) or not name.strip():
                raise ValueError(f"{path}, line {number}: expected a SHA-256 and a file name")
            sums[name.strip().removeprefix("*")] = digits
    return sums
