"""Progress of training: lines on stderr, and on a terminal a bar below them."""

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta

from fastrdm._base import require


class TrainingReport:
    """Lines and, on a terminal, a progress bar on stderr."""

    def __init__(self) -> None:
        progress = require("rich.progress", "train", "to show progress")
        self._console = require("rich.console", "train", "to show progress").Console(stderr=True)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[status]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, status="")
        self._start = time.monotonic()
        self._done = 0
        self._total = 0

    def line(self, text: str) -> None:
        """Print a line, from any thread."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def training(self, n_images: int) -> Iterator[None]:
        """Show the bar and start the clock; training ends after `n_images`."""
        self._start, self._done, self._total = time.monotonic(), 0, n_images
        with self._bar:
            yield

    def begin(self, description: str, done: int, total: int) -> None:
        """Restart the bar, for an epoch's images, some of which may be done."""
        self._bar.reset(self._task, description=description, total=total, completed=done, status="")

    def trained(self, n: int) -> None:
        """Count images that were trained on."""
        self._done += n
        self.advance(n)

    def advance(self, n: int) -> None:
        """Advance the bar by a number of images."""
        self._bar.advance(self._task, n)

    def update(self, loss: float, images_per_s: float) -> None:
        """Show loss, speed and remaining time beside the bar."""
        status = f"loss {loss:.3f}  {images_per_s:.0f} images/s  ETA {self.eta()}"
        self._bar.update(self._task, status=status)

    def eta(self) -> str:
        """Return the time to the end of training, extrapolated from the time since its start, validation included."""
        if not self._done:
            return "unknown"
        pace = (time.monotonic() - self._start) / self._done
        return str(timedelta(seconds=round(pace * max(0, self._total - self._done))))
