"""Progress of a network over images, shown on standard error."""

import contextlib
from collections.abc import Callable, Iterator

from fastrdm._base import printable, require


@contextlib.contextmanager
def progress_bar(title: str, total: int, show: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, or nothing; yields the function that sets its position."""
    if not show:
        yield lambda done: None
        return
    rich = require("rich.progress", "run", "to show a progress bar")
    escape = require("rich.markup", "run", "to show a progress bar").escape
    console = require("rich.console", "run", "to show a progress bar").Console(stderr=True)
    with rich.Progress(console=console, transient=console.is_terminal) as bar:
        task = bar.add_task(escape(printable(title)), total=total)
        yield lambda done: bar.update(task, completed=done)
