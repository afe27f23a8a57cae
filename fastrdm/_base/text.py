"""Pieces of messages: an error on one line, lists of names, the nearest names, counts, text that is safe to show."""

import difflib
import json
import os
import re
import unicodedata
from collections.abc import Iterable

# Letters of a name that is compared with others; the time grows with their square.
_MOST = 500
_LONGEST_LINE = 1000
_DIGITS = re.compile(r"([0-9]+)")
# Categories of characters that are shown although `str.isprintable` is false for them: spaces, private use, unassigned.
_SHOWN = ("Zs", "Co", "Cn")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ESCAPE = re.compile(r"\\(?:([nrt])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")
_SURROGATE = re.compile("[\ud800-\udfff]")


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
    """Return the first line of an error's text that is not blank, or its type's name; a KeyError's text is a key.

    Of long lines, such as those with contents of a file, the first part.
    """
    if isinstance(error, KeyError):
        return f"KeyError: {error}"[:_LONGEST_LINE]
    lines = (line.strip()[:_LONGEST_LINE] for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def first_sentence(error: BaseException) -> str:
    """Return the first sentence of an error's text, or its type's name; at most 120 characters."""
    return one_line(error).partition(". ")[0][:120]


def list_names(names: Iterable[object], most: int = 3, separator: str = ", ") -> str:
    """Join names, such as ``"a, b, c and 4 more"``; all names after the first `most` are only counted.

    Of long names, the first part; they are shown as `printable` does.
    """
    texts = list(map(str, names))
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return separator.join(printable(text[:_LONGEST_LINE]) for text in texts[:most]) + more


def nearest(name: str, known: Iterable[str], n: int = 3) -> str:
    """Join the `n` known names most similar to `name`; ``"none"`` if none are known."""
    return ", ".join(difflib.get_close_matches(name[:_MOST], list(known), n, cutoff=0)) or "none"


def nearest_known(name: str, known: Iterable[str]) -> str:
    """Return ``"the nearest are X, Y"``, ``"the nearest is X"`` if only one is known, or ``"there is none"``."""
    names = list(known)
    if not names:
        return "there is none"
    return f"the nearest {'is' if len(names) == 1 else 'are'} {nearest(name, names)}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean X?"`` for the most similar known name, empty if none is similar."""
    similar = difflib.get_close_matches(name[:_MOST], list(known), 1)
    return f"; did you mean {similar[0]}?" if similar else ""


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, such as ``"1 image"`` or ``"2 images"``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def natural_key(name: str) -> tuple[tuple[int, str] | str, ...]:
    """Return the sort key for natural order: numbers in names compare as numbers, so that "a2" precedes "a10"."""
    parts = _DIGITS.split(name)
    return (*(_number_key(part) if k % 2 else part for k, part in enumerate(parts)), name)


def _number_key(digits: str) -> tuple[int, str]:
    # Python converts no numbers of thousands of digits.
    digits = digits.lstrip("0")
    return len(digits), digits


def printable(text: str) -> str:
    r"""Return text with escapes in place of characters that would act on a terminal or hide what a name is.

    These are control characters, bidirectional and other format characters, line separators and surrogates. A byte of a
    file name that is not UTF-8 becomes ``\xe9``, a character ``\x1b``, ``\u202e`` or ``\U000e0001``. A second call
    changes nothing.
    """
    if text.isprintable():
        return text
    return "".join(c if _is_shown(c) else _escaped(c) for c in text)


def encodable(text: str) -> str:
    r"""Return text with escapes, such as ``\xe9``, in place of surrogates alone, which UTF-8 cannot encode."""
    return text if text.isascii() else _SURROGATE.sub(lambda found: _escaped(found[0]), text)


def unescaped(text: str) -> str:
    """Return the text that `printable` has escaped."""
    plain = _ESCAPE.sub(_character, text)
    try:
        # Bytes that form a character together.
        return os.fsdecode(os.fsencode(plain))
    except UnicodeError:
        return plain


def json_text(value: object, *, ascii_only: bool = True) -> str:
    """Return JSON on one line, in which escapes stand for all characters that `printable` escapes."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    if text.isprintable():
        return text
    return "".join(c if _is_shown(c) else _json_escape(c) for c in text)


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) in _SHOWN


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return _SHORT.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _character(found: re.Match[str]) -> str:
    short, byte, unit, code = found.groups()
    if short:
        return {"n": "\n", "r": "\r", "t": "\t"}[short]
    number = int(byte or unit or code, 16)
    if byte and number >= 0x80:
        number += 0xDC00
    return chr(number) if number < 0x110000 else found[0]


def _json_escape(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]
