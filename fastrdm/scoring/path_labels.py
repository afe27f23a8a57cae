r"""Labels of checkpoints: a regular expression whose named groups are searched in each path.

A label is a column beside those of the results, so it may not have the name of one.
"""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import fields

from fastrdm._base import printable
from fastrdm.scoring.results import Result
from fastrdm.scoring.store_columns import NAMES

# Columns of a store's tables, of `score --csv` and of its JSON lines; the last four are none yet.
RESERVED = frozenset(
    {*NAMES, *(field.name for field in fields(Result))}
    | {"allow_missing", "best", "graph", "synthetic"}
)
_SUBJECT = re.compile(r"rho_\d+")


def compile_labels(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of labels; an empty one has no labels.

    ValueError if it is not a regular expression, has no named group, or names a group like a column of the results.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"labels '{pattern}' is not a regular expression: {error}") from None
    if pattern and not compiled.groupindex:
        raise ValueError(
            f"labels '{pattern}' has no named group, so it finds no label; write for example '{_named(pattern)}'"
        )
    check_label_names(compiled.groupindex)
    return compiled


def check_label_names(names: Iterable[str]) -> None:
    """Refuse a label with the name of a column of results, and a name that a table cannot show as it is."""
    for name in names:
        if not isinstance(name, str) or not name or name != name.strip() or printable(name) != name:
            raise ValueError(
                f"a label cannot be named {name!r}; a name is text without control characters, and without spaces at"
                " its ends"
            )
        if name in RESERVED or _SUBJECT.fullmatch(name):
            raise ValueError(
                f"a label cannot be named {name!r}, which is a column of the results; use another name"
            )


def _named(pattern: str) -> str:
    """A pattern with a name for its first group: the word before it, if there is one."""
    group = re.search(r"(?<!\\)\((?!\?)", pattern)
    if group is not None:
        before, after = pattern[: group.start()], pattern[group.end() :]
        word = re.search(r"([A-Za-z]\w*?)[\W_]*$", before)
        name = word[1] if word and word[1] not in RESERVED else "label"
        with contextlib.suppress(re.error):
            if re.compile(named := f"{before}(?P<{name}>{after}").groupindex:
                return named
    return r"epoch(?P<epoch>\d+)"
