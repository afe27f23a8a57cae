"""One file from a server: resumed where an earlier try stopped, and tried again after failures of the network."""

import errno
import http.client
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastrdm._base import __version__, format_bytes

#: Called with the bytes that are there, and those of the whole file, or None if the server does not say.
Progress = Callable[[int, int | None], None]

_TRIES = 5
_WAIT = 1.0
_TIMEOUT = 60
_CHUNK = 1 << 20
# The disk is full; another try would not help.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TEMPORARY = {408, 429, 500, 502, 503, 504}


class Downloader:
    """A downloader for pooch that keeps what has come in ``FILE.part``, and asks for the rest."""

    def __init__(self, target: Path, progress: Progress | None = None) -> None:
        self.partial = target.with_name(f"{target.name}.part")
        # The server's tag of the version of which the part is.
        self.tag_file = target.with_name(f"{target.name}.part-tag")
        self.progress = progress
        #: Bytes that an earlier try had left.
        self.resumed_at = 0
        #: Whether the file has come, and was not there before.
        self.has_fetched = False

    def __call__(self, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> None:
        """Download an address into `output_file`."""
        failure = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_WAIT * 2 ** (attempt - 1))
            try:
                self._try(url)
            except urllib.error.HTTPError as error:
                failure = f"the server answers {error.code} {error.reason}"
                error.close()
                if error.code == 416:
                    self._forget()
                elif error.code not in _TEMPORARY:
                    break
            except (http.client.HTTPException, OSError) as error:
                failure = str(getattr(error, "reason", error)) or type(error).__name__
                if isinstance(error, urllib.error.URLError) and url.startswith("file:"):
                    break
                if isinstance(error, OSError) and error.errno in _FULL:
                    failure = str(error.strerror)
                    break
            else:
                self.has_fetched = True
                self.partial.replace(os.fspath(output_file))
                self._forget()
                return
        kept = self.partial.stat().st_size if self.partial.exists() and self._tag() else 0
        rest = f"; {kept} bytes are kept, and the next fetch goes on there" if kept else ""
        raise OSError(f"{url} could not be fetched: {failure}{rest}")

    def _try(self, url: str) -> None:
        request = urllib.request.Request(url, headers={"User-Agent": f"fastrdm/{__version__}"})
        there = self.partial.stat().st_size if self.partial.exists() else 0
        tag = self._tag()
        if there and tag:
            request.add_header("Range", f"bytes={there}-")
            request.add_header("If-Range", tag)
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            if response.status == 206:
                if not response.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
                    self._forget()
                    raise http.client.HTTPException("the server sent another part of the file")
                self.resumed_at = self.resumed_at or there
            else:
                there = 0
                self._note_tag(response.headers)
            length = response.headers.get("Content-Length")
            total = there + int(length) if length else None
            free = shutil.disk_usage(self.partial.parent).free
            if total is not None and total - there > free:
                text = f"it has {format_bytes(total)}, and the disk has {format_bytes(free)} left"
                raise OSError(errno.ENOSPC, text)
            with self.partial.open("ab" if there else "wb") as file:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    there += len(chunk)
                    if self.progress is not None:
                        self.progress(there, total)
        if total is not None and there < total:
            raise http.client.HTTPException(f"the connection ended after {there} of {total} bytes")

    def _tag(self) -> str:
        """Return the tag of the part; empty if the server cannot go on with it."""
        return self.tag_file.read_text("utf-8") if self.tag_file.exists() else ""

    def _note_tag(self, headers: Any) -> None:
        tag = headers.get("ETag") or ""
        # A weak tag does not promise the same bytes.
        if tag.startswith("W/"):
            tag = ""
        self.tag_file.write_text(tag or headers.get("Last-Modified") or "", "utf-8")

    def _forget(self) -> None:
        self.partial.unlink(missing_ok=True)
        self.tag_file.unlink(missing_ok=True)


def check_address(url: str) -> None:
    """Refuse a base URL of a scheme other than http, https or file."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https", "file"):
        raise ValueError(
            f"base_url is {url!r}; expected an address that begins with https:// or file:///"
        )
