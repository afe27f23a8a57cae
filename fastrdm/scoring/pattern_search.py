"""Regular expressions of users, searched in many texts without the danger that one never ends.

Python's expressions backtrack: ``(a+)+b`` takes longer than the age of the universe on a hundred a's. Patterns that may
do so are searched in another process with a deadline; the others need no process.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, tee
from typing import TypeAlias

from fastrdm.scoring.guarded_process import GuardedProcess, GuardError

# Seconds for a block of texts, or for one.
_DEADLINE_S = 3.0
_MEMORY = 1 << 28
# Labels that are remembered; more would only save time. Paths are looked up in blocks.
_N_REMEMBERED, _BLOCK = 200_000, 1000
_NAMED_GROUP = re.compile(r"\(\?P<\w+>|\(\?:")

# Groups with a name; None if a pattern is not found.
Groups: TypeAlias = dict[str, str | None] | None


class PatternError(ValueError):
    """A pattern takes too long on a text; one sentence."""


class PatternSearch:
    """Searches patterns in texts; for one thread."""

    def __init__(self) -> None:
        self._process = GuardedProcess(f"{__name__}:search", _DEADLINE_S, _MEMORY)
        self._labels: dict[tuple[str, str], dict[str, str]] = {}

    def groups(self, pattern: str, texts: Iterable[str]) -> Iterator[Groups]:
        """Yield the groups with a name that a pattern finds in each text.

        PatternError names the pattern and the first text on which it takes too long.
        """
        if is_cheap(pattern):
            yield from (search(text, pattern) for text in texts)
            return
        texts, searched = tee(texts)
        for text, found in zip(texts, self._process.map(searched, pattern), strict=True):
            if isinstance(found, GuardError):
                raise PatternError(
                    f"the pattern '{pattern}' {found} on {text}; write one that has fewer ways to match"
                )
            yield found

    def labels(self, pattern: str, paths: Iterable[str]) -> Iterator[dict[str, str]]:
        """Yield the labels that a pattern finds in each path, empty where it does not match; errors as for `groups`."""
        if not pattern or is_cheap(pattern):
            yield from (_labels(search(path, pattern)) for path in paths)
            return
        paths = iter(paths)
        while block := list(islice(paths, _BLOCK)):
            yield from self._labels_of(pattern, block)

    def _labels_of(self, pattern: str, paths: Sequence[str]) -> list[dict[str, str]]:
        known = {path: self._labels.get((pattern, path)) for path in paths}
        new = [path for path, labels in known.items() if labels is None]
        for path, found in zip(new, self.groups(pattern, new), strict=True):
            known[path] = _labels(found)
            if len(self._labels) < _N_REMEMBERED:
                self._labels[pattern, path] = known[path] or {}
        return [known[path] or {} for path in paths]

    def close(self) -> None:
        """End the process."""
        self._process.close()


def find_labels(pattern: str, paths: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the labels that a pattern finds in each path; errors as for `PatternSearch.groups`."""
    with contextlib.closing(PatternSearch()) as searches:
        return dict(zip(paths, searches.labels(pattern, paths), strict=True))


def is_cheap(pattern: str) -> bool:
    """Whether the time of a search grows at most with the square of a text's length, as far as is easily seen.

    The number of ways to match grows faster only with alternatives, optional parts or several repetitions.
    """
    plain = _NAMED_GROUP.sub("(", pattern)
    return not any(c in plain for c in "|?") and sum(map(plain.count, "*+{")) <= 1


def search(text: str, pattern: str) -> Groups:
    """Return the groups with a name that a pattern finds in a text; None if it finds nothing."""
    found = re.search(pattern, text)
    return None if found is None else found.groupdict()


def _labels(groups: Groups) -> dict[str, str]:
    return {name: text for name, text in (groups or {}).items() if text is not None}
