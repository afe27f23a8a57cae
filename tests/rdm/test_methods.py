"""Every row of the table of methods is complete, and the documentation shows it."""

import inspect

import pytest

from fastrdm import RdmAccumulator, calc_rdm
from fastrdm.rdm.measures import Measure
from fastrdm.rdm.methods import METHODS, method_named
from fastrdm.runtimes import device

OPTIONS = set(inspect.signature(calc_rdm).parameters) - {
    "activations",
    "method",
    "out",
    "max_memory",
    "n_threads",
}
rows = pytest.mark.parametrize("row", {row.name: row for row in METHODS.values()}.values())


@rows
def test_a_row_is_complete(row):
    assert row.name.isidentifier() and row.formula
    assert isinstance(row.measure, Measure) and callable(row.prepare)
    assert all(METHODS[alias] is row for alias in (row.name, *row.aliases))
    assert row.takes <= OPTIONS
    assert set(row.needs.split(" or ")) <= row.takes or not row.needs


@rows
def test_a_row_is_consistent(row):
    # Devices and projections compute from blocks of channels, without options.
    if row.on_device or row.projection:
        assert not row.whole and not row.takes
    if row.projection:
        assert method_named(row.projection.method).on_device
        assert row.projection.error(0.1) > 0 and row.projection.n_lengths >= 1


@rows
def test_code_follows_the_row(row):
    if row.whole:
        with pytest.raises(ValueError, match=row.whole):
            RdmAccumulator(3, row.name)
    else:
        RdmAccumulator(3, row.name)
    assert device.suits("cuda", row.name) == row.on_device


def test_names_are_unique():
    names = [name for row in set(METHODS.values()) for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names)) == len(METHODS)


@rows
def test_the_documentation_shows_each_row(row):
    (line,) = [
        line for line in calc_rdm.__doc__.splitlines() if line.strip().startswith(f"{row.name} ")
    ]
    assert row.formula in line
    assert all(f"``{alias}``" in line for alias in row.aliases)
    assert ("blocks" in line.split()[-1] or "blocks," in line.split()) == (not row.whole)
