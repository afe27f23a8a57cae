"""Bytes and seconds, as numbers and as text."""

import re

_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{infix}b": base ** (power + 1)
    for infix, base in (("", 1000), ("i", 1024))
    for power, prefix in enumerate("kmgt")
}


def parse_bytes(size: int | str, name: str = "max_memory") -> int:
    """Return a number of bytes given as a number or with a unit: ``"500MB"``, ``"2GiB"``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(size).lower())
    unit = _UNITS.get(match[2]) if match else None
    if isinstance(size, bool) or match is None or unit is None:
        raise ValueError(
            f"{name} {size!r} is not a number of bytes; pass one such as 500_000_000, '500MB' or '2GiB'"
        )
    return int(float(match[1]) * unit)


def format_bytes(n: int) -> str:
    """Return bytes as text, such as ``"12 MiB"`` or ``"1.5 GiB"``."""
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.0f} MiB"


def format_seconds(seconds: float) -> str:
    """Return a duration as text, such as ``"2 h 5 min"``."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
