r"""Cells of CSV and Excel files: text that a spreadsheet would take for a formula, and text that it cannot show.

A spreadsheet takes a cell for a formula if it begins with ``=``, ``+``, ``-``, ``@``, a tab, a carriage return or a
line feed, or with one of the first four in full width, as OWASP lists for CSV injection. Text that is a number, such as
``-0.5``, is not a formula.
"""

import re
from collections.abc import Iterable
from typing import Any

from fastrdm._base import encodable, printable

_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would take text for a formula."""
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)


def csv_cells(values: Iterable[Any], raw_cells: bool = False) -> list[Any]:
    r"""Return values as cells of a CSV file, which can hold them in UTF-8.

    Text that is a formula begins with an apostrophe, and what `printable` escapes is escaped. With `raw_cells`, text is
    as it is, apart from bytes of file names that are not UTF-8, which are written as ``\xe9``.
    """
    return [_csv_text(each, raw_cells) if isinstance(each, str) else each for each in values]


def _csv_text(text: str, raw_cells: bool) -> str:
    if raw_cells:
        return encodable(text)
    return "'" * is_formula(text) + printable(text)
