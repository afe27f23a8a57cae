"""One row of the table is all that a new similarity needs."""

import dataclasses
import inspect
import re

import numpy as np
import pytest
import reference

import fastrdm
from fastrdm.similarity.resamplers import Resampler
from fastrdm.similarity.table import SIMILARITIES, TABLE

RNG = np.random.default_rng(0)
SUBJECTS, MODELS = RNG.random((4, 28)), RNG.random((2, 28))
rows = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)


def test_names_and_aliases_are_distinct():
    names = [name for row in TABLE for name in (row.name, *row.aliases)]
    assert len(set(names)) == len(names) and list(SIMILARITIES) == names


@rows
def test_a_row_is_complete(row):
    kinds = {
        "undefined": ("constant", "zero"),
        "ordinal": (True, False),
        "permutable": (True, False),
    }
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if field.name in kinds:
            assert value in kinds[field.name]
        elif field.name in ("prepare", "combine", "standardise"):
            assert callable(value)
    assert row.resampler is None or isinstance(row.resampler, Resampler)


@rows
def test_a_row_is_documented_and_has_an_oracle(row):
    # The entry in the table of methods: its line, and the indented lines after it.
    entry = re.search(rf"^``{row.name}`` .*(\n {{9,}}\S.*)*", inspect.getdoc(fastrdm.compare), re.M)
    assert entry
    assert all(f"alias ``{alias}``" in entry[0] for alias in row.aliases)
    assert row.name in reference.METHODS and row.name in reference.POOLED


@rows
@pytest.mark.parametrize("pool", ["raw", "rank"])
def test_every_use_takes_every_name(row, pool):
    results = []
    for name in (row.name, *row.aliases):
        protocol = fastrdm.Protocol("test", name, False, pool, "upper", "here")
        target = fastrdm.Target(SUBJECTS, protocol)
        drawn = fastrdm.bootstrap(target, MODELS, n_draws=3)
        permuted = fastrdm.permutation_test(target, MODELS, n_permutations=9)
        results.append(
            [
                fastrdm.compare(MODELS, SUBJECTS, name),
                target.score(MODELS).rho,
                fastrdm.noise_ceiling(SUBJECTS, name, pool=pool).upper_per_subject,
                drawn.evaluations,
                drawn.ceilings,
                permuted.p,
            ]
        )
        assert drawn.method == name
    for alias in results[1:]:
        for expected, value in zip(results[0], alias, strict=True):
            np.testing.assert_array_equal(value, expected)


@rows
def test_the_fast_paths_equal_the_written_ones(row, monkeypatch):
    protocol = fastrdm.Protocol("test", row.name, False, "rank", "upper", "here")

    def results():
        drawn = fastrdm.bootstrap(SUBJECTS, MODELS, n_draws=4, protocol=protocol)
        permuted = fastrdm.permutation_test(SUBJECTS, MODELS, n_permutations=9, protocol=protocol)
        return [drawn.evaluations, drawn.ceilings, permuted.p]

    expected = results()
    written = dataclasses.replace(row, resampler=None, permutable=False)
    table = {**SIMILARITIES, row.name: written}
    monkeypatch.setattr("fastrdm.similarity.table.SIMILARITIES", table)
    for value, other in zip(results(), expected, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-12)
