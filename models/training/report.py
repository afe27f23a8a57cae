"""What is told while a network trains: lines on stderr, and on a terminal a bar below them."""

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta

from fastrdm._base import require


class Report:
    """Lines and, on a terminal, a bar, on stderr."""

    def __init__(self) -> None:
        self._console = require("rich.console", "train", "to show progress").Console(stderr=True)
        self._bar = None
        self._clock = time.monotonic()
        self._done = 0
        self._left = 0

    def line(self, text: str) -> None:
        """Print a line, from any thread."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def training(self, left: int) -> Iterator[None]:
        """Show the bar, and count the time from here; `left` images are to be trained on until the end."""
        progress = require("rich.progress", "train", "to show progress")
        self._clock, self._done, self._left = time.monotonic(), 0, left
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[told]}"),
        )
        bar = progress.Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        )
        with bar:
            self._bar, self._task = bar, bar.add_task("", total=None, told="")
            try:
                yield
            finally:
                self._bar = None

    def begin(self, what: str, done: int, total: int) -> None:
        """Begin a bar: an epoch's images, of which some may be done."""
        if self._bar is not None:
            self._bar.reset(self._task, description=what, total=total, completed=done, told="")

    def trained(self, n: int) -> None:
        """Count images that were trained on."""
        self._done += n
        self.advance(n)

    def advance(self, n: int) -> None:
        """Move the bar on by some images."""
        if self._bar is not None:
            self._bar.advance(self._task, n)

    def tell(self, loss: float, images_per_s: float) -> None:
        """Say beside the bar how training goes."""
        if self._bar is not None:
            told = f"loss {loss:.3f}  {images_per_s:.0f} images/s  ETA {self.eta()}"
            self._bar.update(self._task, told=told)

    def eta(self) -> str:
        """Time to the end of training, at the pace since it was begun, validation included."""
        if not self._done:
            return "unknown"
        pace = (time.monotonic() - self._clock) / self._done
        return str(timedelta(seconds=round(pace * max(0, self._left - self._done))))
