"""`fastrdm fetch`: public data into a folder."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fastrdm._base import counted, format_bytes, require
from fastrdm.cli.json_output import add_json
from fastrdm.cli.printing import complain, echo_json, flush

if TYPE_CHECKING:
    from fastrdm.studies import PublicData

# Seconds between lines on a long download.
_EVERY = 5.0


def add_fetch(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fetch`."""
    from fastrdm.studies import PUBLIC_DATA

    parser.description = (
        "Fetch public data from their owners: "
        f"{'; '.join(f'{each.name} ({each.title})' for each in PUBLIC_DATA.values())}. The licence is shown, and has "
        "to be accepted. Repeat an interrupted fetch: it goes on where it stopped."
    )
    add = parser.add_argument
    add("name", choices=tuple(PUBLIC_DATA), metavar="NAME", help=", ".join(PUBLIC_DATA))
    add("folder", nargs="?", metavar="DIR", help="target folder (default: NAME)")
    accept = "accept the licence without a question, after you have read it"
    add("--accept-licence", action="store_true", help=accept)
    base = "address below which the files lie: a mirror, or file:///FOLDER of files that are there"
    add("--base-url", metavar="URL", help=base)
    sums = "SHA-256 of the files, as `sha256sum` writes them (default: those that the first fetch recorded)"
    add("--checksums", metavar="FILE", help=sums)
    add_json(parser, "a JSON object with the files and their checksums")
    parser.set_defaults(run=_fetch)


def _fetch(arguments: argparse.Namespace) -> int:
    from fastrdm.studies import PUBLIC_DATA, fetch_data, read_checksums

    require("pooch", "fetch", "to fetch public data")
    data, show = PUBLIC_DATA[arguments.name], _Lines()
    folder = Path(arguments.folder or data.name)
    checksums = read_checksums(arguments.checksums) if arguments.checksums else None
    files = fetch_data(
        data.name,
        folder,
        accept_licence=_accepted(data, arguments.accept_licence),
        base_url=arguments.base_url,
        checksums=checksums,
        progress=show,
    )
    first = [file.name for file in files if file.checked == "first"]
    if first:
        complain(
            f"{counted(len(first), 'file')} had no checksum to compare with; the SHA-256 is recorded in {folder}"
        )
    size = format_bytes(sum(file.n_bytes for file in files))
    complain(f"{data.name}: {counted(len(files), 'file')}, {size} in {folder}")
    if arguments.json:
        rows = [
            {
                "name": file.name,
                "path": str(file.path),
                "n_bytes": file.n_bytes,
                "sha256": file.sha256,
                "checked": file.checked,
                "resumed_at": file.resumed_at,
            }
            for file in files
        ]
        echo_json(
            {"name": data.name, "folder": str(folder), "licence": data.licence, "files": rows}
        )
    return 0


def _accepted(data: "PublicData", accepted: bool) -> bool:
    complain(f"{data.title}. {data.page}")
    complain(f"Licence: {data.licence}")
    if accepted:
        return True
    if not sys.stdin.isatty():
        raise PermissionError(
            f"the licence of {data.name} has to be accepted; read it at {data.page}, and pass --accept-licence"
        )
    flush()
    sys.stderr.write("Do you accept it? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise PermissionError(f"the licence of {data.name} was not accepted; nothing was fetched")
    return True


class _Lines:
    """A line on standard error every few seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, name: str, done: int, total: int | None) -> None:
        if time.monotonic() - self._last < _EVERY:
            return
        self._last = time.monotonic()
        of = "" if total is None else f" of {format_bytes(total)}"
        complain(f"{name}: {format_bytes(done)}{of}")
