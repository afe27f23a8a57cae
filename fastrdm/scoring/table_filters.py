"""Conditions on the rows of a table, such as ``epoch >= 10``."""

import functools
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastrdm._base import nearest_known, printable
from fastrdm.scoring.pattern_search import PatternSearch

_CONDITION = re.compile(r"\s*([^=!<>~]*[^\s=!<>~])\s*(<=|>=|!=|==|=|<|>|~)\s*(.*?)\s*", re.DOTALL)
# Texts on which the result of a search is remembered.
_N_REMEMBERED = 10_000
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """A condition on one column: whether a value meets it."""

    column: str
    test: Callable[[Any], bool]


def read_condition(text: str, columns: Mapping[str, type]) -> Condition:
    """Read a condition COLUMN OP VALUE.

    OP is one of = != < <= > >= for numbers, and one of = != ~ for text, where ~ searches a regular expression. An empty
    value means a missing label. ValueError if the column is unknown or the value does not fit it.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ValueError(
            f"condition {text!r} is not COLUMN OP VALUE, with OP one of = != < <= > >= ~"
        )
    column, op, value = found.groups()
    if column not in columns:
        raise ValueError(
            f"condition {text!r}: there is no column {column!r}; {nearest_known(column, columns)}"
        )
    value = _unquoted(value)
    if op == "~":
        return Condition(column, _search(text, value))
    if columns[column] is str:
        if op not in ("=", "==", "!="):
            raise ValueError(f"condition {text!r}: {column} is text; compare it with =, != or ~")
        return Condition(column, _text_comparison(op, value))
    if not value and op in ("=", "==", "!="):
        wanted = op != "!="
        return Condition(column, lambda number: _is_missing(number) is wanted)
    try:
        return Condition(column, _comparison(op, float(value)))
    except ValueError:
        raise ValueError(
            f"condition {text!r}: {column} is a number, and {value!r} is not; several conditions are given separately"
        ) from None


def _comparison(op: str, value: Any) -> Callable[[Any], bool]:
    compare, is_different = _COMPARE[op], op == "!="
    return lambda each: is_different if _is_missing(each) else compare(each, value)


def _text_comparison(op: str, value: str) -> Callable[[Any], bool]:
    """Compare text as it is, and as messages and tables show it."""
    is_different = op == "!="
    return lambda each: (each == value or printable(each or "") == value) is not is_different


def _search(text: str, pattern: str) -> Callable[[Any], bool]:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"condition {text!r}: not a regular expression: {error}") from None
    searches = PatternSearch()

    @functools.lru_cache(maxsize=_N_REMEMBERED)
    def is_found(each: str) -> bool:
        return next(searches.groups(pattern, [each])) is not None

    return lambda each: not _is_missing(each) and is_found(str(each))


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value


def known_names(names: Iterable[str], known: Sequence[str], kind: str) -> set[str]:
    """The known names that are meant, in any case; ValueError for an unknown one."""
    by_case = {name.casefold(): name for name in known}
    found = set()
    for name in names:
        if name in known:
            found.add(name)
        elif name.casefold() in by_case:
            found.add(by_case[name.casefold()])
        else:
            raise ValueError(f"the store has no {kind} {name!r}; {nearest_known(name, known)}")
    return found
