"""Which of the weights in a file are taken: what the user asked for, and what was found."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fastrdm._base import list_names

_SHOWN = 6


@dataclass(frozen=True)
class Selection:
    """Which weights to take from files that hold several; by default the only ones that fit.

    `key` is the dotted path of a state dict in the file ("." for its top level), `prefix` what is removed from the
    names, of which others are ignored ("" removes nothing), `ema` whether averaged weights are taken. Entries whose
    names, or the names of whose modules, match a pattern of `allow_missing` may be missing, of another shape, or
    unknown to the network, if no tapped layer depends on them; patterns are those of taps.
    """

    key: str | None = None
    prefix: str | None = None
    ema: bool = False
    allow_missing: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        key: str | None = None,
        prefix: str | None = None,
        ema: bool = False,
        allow_missing: Sequence[str] = (),
    ) -> "Selection":
        """Return a checked selection; a TypeError or ValueError names the argument."""
        for name, value in {"key": key, "prefix": prefix}.items():
            if not isinstance(value, str | None):
                raise TypeError(f"{name} must be a string or None, not {value!r}")
        if not isinstance(ema, bool):
            raise TypeError(f"ema must be True or False, not {ema!r}")
        if key == "":
            raise ValueError('key is empty; the top level of a file is "."')
        patterns = [allow_missing] if isinstance(allow_missing, str) else list(allow_missing)
        if not all(isinstance(each, str) and each for each in patterns):
            raise TypeError(f"allow_missing must be patterns of names, not {allow_missing!r}")
        return cls(key, prefix, ema, tuple(patterns))

    def __bool__(self) -> bool:
        return bool(self.to_dict())

    def to_dict(self) -> dict[str, object]:
        """Return the choices that differ from the default."""
        default = vars(Selection())
        return {name: value for name, value in vars(self).items() if value != default[name]}


ANY_FITTING = Selection()
"""The default: the only state dict that fits."""


@dataclass(frozen=True)
class Taken:
    """What was taken from a file: the state dict's key, the prefix removed, whether averaged weights.

    `ema` is "yes", "no" if the file also holds averaged weights that were not taken, else empty; `missing` are entries
    that the file or the network lacks, or that differ in shape. `remarks` are sentences for the user.
    """

    key: str = ""
    prefix: str = ""
    ema: str = ""
    missing: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=(), compare=False)

    def to_dict(self) -> dict[str, str]:
        """Return what is not empty, as text."""
        facts = {
            "key": self.key,
            "prefix": self.prefix,
            "ema": self.ema,
            "missing": list_names(self.missing, _SHOWN),
        }
        return {name: value for name, value in facts.items() if value}
