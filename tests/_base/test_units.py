import numpy as np
import pytest

from fastrdm._base import format_bytes, format_seconds, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (5, 5),
        ("5", 5),
        ("1.5 kB", 1500),
        ("2GiB", 2 << 30),
        ("3mib", 3 << 20),
        (np.int64(7), 7),
        (1e9, 10**9),
    ],
)
def test_sizes_of_memory(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["much", "2 gigs", -1, True, "", "1e", None, float("nan")])
def test_a_wrong_size_of_memory_is_an_error(text):
    with pytest.raises(ValueError, match="is not a number of bytes; pass one such as"):
        parse_bytes(text)


def test_units_are_printed():
    assert [format_bytes(n) for n in (0, 12 << 20, 3 << 29)] == ["0 MiB", "12 MiB", "1.5 GiB"]
    assert [format_seconds(s) for s in (7, 180, 7500)] == ["7 s", "3 min", "2 h 5 min"]
