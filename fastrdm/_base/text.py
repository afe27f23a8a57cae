"""Pieces of messages: an error on one line, lists of names, the nearest names, counts."""

import difflib
import re
from collections.abc import Iterable

_DIGITS = re.compile(r"([0-9]+)")


def one_line(error: BaseException) -> str:
    """Return the text of an error on one line, or its type's name if it has no text."""
    return " ".join(str(error).split()) or type(error).__name__


def is_expected(error: BaseException) -> bool:
    """Whether the text of an error is for users: that of errors that fastrdm raises itself."""
    return isinstance(error, ValueError | OSError | ImportError)


def error_text(error: BaseException) -> str:
    """Return an error on one line, with the file of an error of the system and the type of an unexpected one."""
    if isinstance(error, OSError) and error.strerror and len(error.args) > 1:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if is_expected(error):
        return one_line(error)
    text = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}{': ' if text else ''}{text}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text that is not blank, or its type's name; a KeyError's text is a key."""
    if isinstance(error, KeyError):
        return f"KeyError: {error}"
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def first_sentence(error: BaseException) -> str:
    """Return the first sentence of an error's text, or its type's name; at most 120 characters."""
    return one_line(error).partition(". ")[0][:120]


def list_names(names: Iterable[object], most: int = 3, separator: str = ", ") -> str:
    """Join names, such as ``"a, b, c and 4 more"``; all names after the first `most` are only counted."""
    texts = list(map(str, names))
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return separator.join(texts[:most]) + more


def nearest(name: str, known: Iterable[str], n: int = 3) -> str:
    """Join the `n` known names most similar to `name`; ``"none"`` if none are known."""
    return ", ".join(difflib.get_close_matches(name, list(known), n, cutoff=0)) or "none"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean X?"`` for the most similar known name, empty if none is similar."""
    similar = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {similar[0]}?" if similar else ""


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, such as ``"1 image"`` or ``"2 images"``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def natural_key(name: str) -> tuple[int | str, ...]:
    """Return the sort key for natural order: numbers in names compare as numbers, so that "a2" precedes "a10"."""
    parts = _DIGITS.split(name)
    return (*(int(part) if k % 2 else part for k, part in enumerate(parts)), name)
