"""Lines on standard output and standard error: names shown harmlessly, and a closed pipe told from other errors."""

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator
from typing import IO, Any

from fastrdm._base import MissingExtraError, json_text, printable, require

_STDERR = 2
# Kinds of messages, and the styles of rich in which they begin.
_STYLES = {"error": "bold red", "warning": "yellow"}
#: Exit status after the reader of a pipe has closed it: 128 + SIGPIPE, as a shell reports it.
CLOSED_PIPE = 141
#: Help of the option of commands that write cells; not in `arguments`, whose imports `fastrdm table` does without.
RAW_CELLS = (
    "write text into CSV and Excel cells as it is, for programs (default: text that a spreadsheet would take for a "
    "formula begins with an apostrophe, and control characters are escaped)"
)


class OutputClosedError(Exception):
    """The reader of standard output or standard error has closed the pipe."""


class OutputFailedError(OSError):
    """Standard output or standard error cannot be written, for example because its disk is full."""


def echo(line: str = "", file: IO[str] | None = None, *, flush: bool = False) -> None:
    """Write a line, by default to standard output, with escapes for what would act on a terminal."""
    write(f"{printable(line)}\n", file, flush=flush)


def complain(line: str) -> None:
    """Write a line to standard error; on a terminal, what precedes an error or a warning is coloured."""
    for word, style in _STYLES.items():
        if line.startswith(start := f"fastrdm: {word}:") and is_styled(sys.stderr):
            write(
                f"{_styled(start, style)}{printable(line[len(start) :])}\n", sys.stderr, flush=True
            )
            return
    echo(line, sys.stderr, flush=True)


def note(line: str, file: IO[str] | None = None) -> None:
    """Write a remark on what a file or the terminal shows; in a pipe, where it would be no data, to standard error."""
    if file in (None, sys.stdout) and not sys.stdout.isatty():
        complain(line)
    else:
        echo(line, file)


def complain_lines(text: str) -> None:
    """Write the lines of a traceback to standard error."""
    for line in text.splitlines():
        complain(line)


def echo_json(value: Any) -> None:
    """Write a value to standard output as one line of JSON."""
    write(f"{json_text(value)}\n", flush=True)


def write(text: str, file: IO[str] | None = None, *, flush: bool = False) -> None:
    """Write text as it is; OutputClosedError if the reader has closed the pipe."""
    file = sys.stdout if file is None else file
    with noticing_closed_pipes():
        file.write(text)
        if flush:
            file.flush()


@contextlib.contextmanager
def console(width: int) -> Iterator[Any]:
    """Give a console of rich for standard output; without a terminal, its lines have `width` characters.

    It takes neither markup nor names of emoji from text. By itself, rich ends the process when a pipe is closed.
    """
    require("rich.console", "run", "to print tables")
    text = io.StringIO()
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
    yield new_console(sys.stdout, file=text, width=width)
    write(text.getvalue())


def new_console(stream: IO[str], **options: Any) -> Any:
    """Return a console of rich with the colours of a stream, which takes neither markup nor emoji from text."""
    styled = is_styled(stream)
    # By itself, rich has no colours on a dumb terminal, which FORCE_COLOR asks for.
    colours = "standard" if os.environ.get("TERM", "dumb") == "dumb" else "auto"
    return require("rich.console", "run", "to show colours").Console(
        force_terminal=styled or stream.isatty(),
        color_system=colours if styled else None,
        markup=False,
        emoji=False,
        highlight=False,
        **options,
    )


def is_styled(stream: IO[str]) -> bool:
    """Return whether colours are shown: not with NO_COLOR, with FORCE_COLOR, or on a terminal that is not dumb."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def can_show_progress() -> bool:
    """Return whether standard error is a terminal that can replace a line, for progress bars."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _styled(text: str, style: str) -> str:
    try:
        out = new_console(sys.stderr, file=io.StringIO(), width=len(text) + 1)
    except MissingExtraError:
        return text
    out.print(text, style=style, end="")
    return str(out.file.getvalue())


@contextlib.contextmanager
def noticing_closed_pipes() -> Iterator[None]:
    """Raise OutputClosedError in place of the error of a closed pipe; other errors name the output."""
    try:
        yield
    except BrokenPipeError:
        raise OutputClosedError from None
    except OSError as error:
        if error.errno is None or error.filename:
            raise
        raise OutputFailedError(error.errno, error.strerror, "standard output") from error


def open_streams() -> None:
    """Open the null device in place of standard streams that are closed, whose numbers other files would take."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        # For worker processes.
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or io.TextIOWrapper(io.FileIO(1, "w"), "utf-8")
    sys.stderr = sys.stderr or io.TextIOWrapper(io.FileIO(_STDERR, "w"), "utf-8")


def replace_symbols() -> None:
    """Show a question mark for a character that the encoding of a stream does not have, such as a symbol in a table."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def flush() -> None:
    """Write what the streams hold still."""
    for stream in (sys.stdout, sys.stderr):
        with noticing_closed_pipes():
            stream.flush()


def discard() -> None:
    """Drop what the streams cannot write, so that the interpreter does not try again when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
