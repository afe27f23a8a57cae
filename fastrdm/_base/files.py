"""Files that appear, or take the place of what is there, when they are complete."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write that becomes `path` at the end; an error leaves nothing behind."""
    # Not by `tempfile`, whose files nobody else may read.
    beside = path.with_name(f"{path.name}.{os.urandom(8).hex()}.part")
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
