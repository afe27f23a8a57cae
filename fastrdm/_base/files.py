"""Files that appear, or replace older ones, only when complete."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is renamed to `path` at the end; an error leaves nothing behind."""
    # Not with `tempfile`: other users may not read its files.
    partial = path.with_name(f"{path.name}.{os.urandom(8).hex()}.part")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
