import functools
import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrdm
from fastrdm.rdm import SparseProjection, names_where
from fastrdm.rdm.bounds import n_components_for

PROJECTED = names_where(lambda row: row.projection)


def activations(n, n_channels, seed=0, offset=0.0):
    """Rectified, with a part in common, as a network's are."""
    rng = np.random.default_rng(seed)
    rows = np.maximum(rng.standard_normal((n, n_channels)) + rng.standard_normal(n_channels), 0)
    return (rows + offset).astype(np.float32)


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array, "<f4").tobytes()).hexdigest()


def ramp(n, n_channels):
    """Whole numbers, whose sums no order of summation changes."""
    return (np.arange(n * n_channels, dtype=np.float32) % 17 - 8).reshape(n, n_channels)


dense_matrix = functools.cache(reference.sparse_projection)


# Around the kernel's blocks of 256 channels, and two of its shares of 64 blocks or more.
@pytest.mark.parametrize("n_channels", [52, 255, 256, 257, 1000, 33_000])
@pytest.mark.parametrize("method", ["correlation", "sqeuclidean"])
def test_projections_are_those_of_a_dense_matrix(kernels, n_channels, method):
    for n, n_components, density in [(1, 51, "li"), (17, 50, 0.1), (33, 13, 0.05), (16, 4, 1)]:
        layer = SparseProjection(n_components, density=density, seed=3).layer(
            n_channels, "conv1", method
        )
        rows = activations(n, n_channels)
        r = dense_matrix(n_channels, n_components, layer.per_channel, 3, "conv1")
        wide = rows.astype(np.float64)
        wide -= wide.mean(axis=1, keepdims=True) if method == "correlation" else 0
        got = layer.project(rows)
        assert got.dtype == np.float32
        lengths = np.linalg.norm(wide, axis=1, keepdims=True)
        assert np.all(np.abs(got - wide @ r.T) <= 2e-5 * lengths)


def test_the_density_is_rounded_to_whole_entries():
    entries = {
        density: SparseProjection(90, density=density).layer(10_000).per_channel
        for density in ("li", "achlioptas", 0.25, 0.0001, 1)
    }
    assert entries == {"li": 1, "achlioptas": 30, 0.25: 22, 0.0001: 1, 1: 90}
    assert SparseProjection(4096).layer(20_000).per_channel == round(4096 / 20_000**0.5)


def test_every_channel_has_one_entry_in_each_stripe():
    n_channels, n_components, per_channel = 700, 31, 6
    layer = SparseProjection(n_components, density=0.2).layer(n_channels, method="cosine")
    r = layer.project(np.eye(n_channels, dtype=np.float32)).T
    r = np.round(r * np.sqrt(per_channel), 6)
    assert set(np.unique(r)) == {-1, 0, 1}
    bounds = np.arange(per_channel + 1) * n_components // per_channel
    for begin, end in itertools.pairwise(bounds):
        assert np.all(np.count_nonzero(r[begin:end], axis=0) == 1)
        # Each component as often as the others, each sign as often as the other, within five deviations.
        used = np.count_nonzero(r[begin:end], axis=1)
        assert np.all(np.abs(used - n_channels / (end - begin)) < 5 * np.sqrt(n_channels / 5))
    assert abs(r.sum()) < 5 * np.sqrt(n_channels * per_channel)


def test_threads_and_kernels_change_no_bit(kernels):
    rows = activations(20, 70_000)
    layer = SparseProjection(40).layer(70_000, 2)
    for n_threads in (1, 2, 5, 16):
        got = digest(layer.project(rows, n_threads=n_threads))
        assert got == _projected_on_compiled_kernels()


@functools.cache
def _projected_on_compiled_kernels():
    code = (
        "from rdm.test_projection import *\n"
        "layer = SparseProjection(40).layer(70_000, 2)\n"
        "print(fastrdm.kernels().name, digest(layer.project(activations(20, 70_000))))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"FASTRDM_KERNELS": "cpp", "FASTRDM_ISA": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    name, found = result.stdout.split()
    assert name == "cpp", result.stderr
    return found


def test_the_matrix_is_the_same_on_every_platform(kernels):
    """Pinned: results that were stored must stay comparable."""
    layer = SparseProjection(64, density=1 / 16, seed=7).layer(5000, "block1", "cosine")
    assert layer.per_channel == 4
    assert digest(layer.project(ramp(3, 5000))) == (
        "bddb5b7e5159d25f6f39228e3ec2a4f075977e1edd5af8d69c247731d99a440e"
    )


BATCHED = activations(40, 900)
LAYER = SparseProjection(60).layer(900, "conv1")
WHOLE = LAYER.project(BATCHED)


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 3))
@settings(deadline=None)
def test_batches_change_no_bit(cuts, n_threads):
    out = np.full_like(WHOLE, np.nan)
    bounds = sorted({0, *cuts, 40})
    for start, stop in itertools.pairwise(bounds):
        LAYER.project(BATCHED[start:stop], out=out[start:stop], n_threads=n_threads)
    np.testing.assert_array_equal(out, WHOLE)


def test_seed_name_and_channels_choose_the_matrix():
    def made(seed, name, n_channels):
        layer = SparseProjection(50, seed=seed).layer(n_channels, name, "cosine")
        return digest(layer.project(np.eye(n_channels, dtype=np.float32)[:300]))

    assert made(1, "a", 300) == made(1, "a", 300)
    assert made(1, 4, 300) == made(1, "4", 300)
    others = [made(*case) for case in [(1, "a", 300), (2, "a", 300), (1, "b", 300), (1, "a", 301)]]
    assert len(set(others)) == 4


def test_a_matrix_is_drawn_once_and_its_memory_is_reported():
    projection = SparseProjection(100)
    layer, again = (projection.layer(10_000, "a", m) for m in ("correlation", "euclidean"))
    assert layer._signs is again._signs
    # 40 blocks of 256 channels, an entry each, and a sum for each component.
    assert layer.n_bytes == 4 * 40 * 256 + 4 * 100


def test_layers_with_few_channels_are_not_projected():
    rows = activations(5, 100).reshape(5, 4, 25)
    for method in PROJECTED:
        layer = SparseProjection(100).layer(100, "fc", method)
        assert (layer.n_components, layer.method, layer.n_bytes) == (100, method, 0)
        kept = layer.project(rows)
        np.testing.assert_array_equal(kept, rows.reshape(5, 100))
        assert np.shares_memory(kept, rows)
        out = np.empty((5, 100), np.float32)
        assert layer.project(rows, out=out) is out
        np.testing.assert_array_equal(out, kept)
        assert layer.bound(10) == (0, 0, 1, 1)


def one_channel_matters(n, n_channels):
    rows = activations(n, n_channels)
    rows[:, :3] *= 300
    return rows


@pytest.mark.parametrize("density", ["li", "achlioptas", 1])
@pytest.mark.parametrize("rows", [activations, one_channel_matters])
def test_squared_lengths_are_unbiased_and_as_exact_as_with_a_dense_matrix(rows, density):
    n_channels, n_components, n_matrices = 1000, 128, 400
    x = rows(2, n_channels)
    difference = (x[0] - x[1])[None]
    length = float((difference.astype(np.float64) ** 2).sum())
    found = np.array(
        [
            (
                SparseProjection(n_components, density=density, seed=seed)
                .layer(n_channels, method="sqeuclidean")
                .project(difference)
                .astype(np.float64)
                ** 2
            ).sum()
            / length
            for seed in range(n_matrices)
        ]
    )
    deviation = np.sqrt(2 / n_components)
    assert abs(found.mean() - 1) < 4 * deviation / np.sqrt(n_matrices)
    assert found.std() < deviation * (1 + 4 / np.sqrt(2 * n_matrices))


@pytest.mark.parametrize("method", PROJECTED)
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_dissimilarities_keep_their_bound(method, offset):
    n, n_channels, n_matrices = 12, 3000, 40
    x = activations(n, n_channels, offset=offset)
    truth = fastrdm.calc_rdm(x, method)
    errors = []
    for seed in range(n_matrices):
        layer = SparseProjection(600, seed=seed).layer(n_channels, "conv1", method)
        errors.append(fastrdm.calc_rdm(layer.project(x), layer.method) - truth)
    bound, errors = layer.bound(n), np.abs(errors)
    if "euclidean" in method:
        errors /= truth
    assert 0.15 < bound.eps < 0.2 and bound.error < 0.5
    assert np.mean(errors > bound.error) <= 1 - bound.probability
    assert 0 < bound.certain < bound.probability < 1


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_correlations_deviate_as_the_docstring_says(offset):
    """An offset changes nothing: means are taken off before, since a projection does not keep them."""
    n, n_channels, n_components = 10, 4000, 400
    x = activations(n, n_channels, offset=offset)
    truth = fastrdm.calc_rdm(x)
    layers = [SparseProjection(n_components, seed=s).layer(n_channels) for s in range(200)]
    errors = np.array([fastrdm.calc_rdm(layer.project(x), "cosine") - truth for layer in layers])
    expected = (1 - (1 - truth) ** 2) / np.sqrt(n_components)
    np.testing.assert_allclose(errors.std(axis=0), expected, rtol=0.25)
    assert np.all(np.abs(errors.mean(axis=0)) < 4.5 * expected / np.sqrt(200))


def test_the_bound_in_numbers():
    # For 100 conditions and eps 0.1; scikit-learn gives these numbers, rounded down.
    layer = SparseProjection(eps=0.1, n_conditions=100).layer(1_000_000, method="euclidean")
    assert layer.n_components == 3948
    bound = layer.bound(100)
    assert bound.eps == pytest.approx(0.1, abs=1e-4)
    assert bound.error == pytest.approx(1 - 0.9**0.5, abs=1e-4)
    assert bound.probability == pytest.approx(1 - 2 / 100**2)
    assert bound.certain == pytest.approx(1 - 2 / 3948 / 0.01, abs=1e-3)
    angle = SparseProjection(3948).layer(1_000_000).bound(100)
    assert angle.error == pytest.approx(0.2 / 0.9, abs=1e-3)
    assert angle.probability == pytest.approx(1 - 8 / 100**2)


@pytest.mark.parametrize("eps, sklearn", [(0.5, 663), (0.1, 11841), (0.01, 1112658)])
def test_components_are_those_of_scikit_learn_rounded_up(eps, sklearn):
    assert n_components_for(1_000_000, eps) == sklearn + 1


def test_constant_conditions_have_no_correlation():
    x = activations(4, 5000)
    x[1], x[3] = 0.1, 0
    layer = SparseProjection(64).layer(5000)
    kept = layer.project(x)
    assert not kept[[1, 3]].any() and kept[[0, 2]].any()
    with pytest.warns(RuntimeWarning, match="conditions that are zero"):
        rdm = fastrdm.square(fastrdm.calc_rdm(kept, layer.method))
    assert np.isnan(rdm[[1, 3]][:, [0, 2]]).all() and rdm[0, 2] > 0


@pytest.mark.parametrize("convert", [np.float64, np.float16, ">f4"])
def test_other_types_and_orders_are_copied(convert):
    rows = activations(5, 600).astype(np.float16).astype(np.float32)
    layer = SparseProjection(32).layer(600)
    expected = layer.project(rows)
    np.testing.assert_array_equal(layer.project(rows.astype(convert)), expected)
    np.testing.assert_array_equal(layer.project(np.asfortranarray(rows)), expected)
    np.testing.assert_array_equal(layer.project(rows.reshape(5, 6, 10, 10)), expected)
    assert layer.project(rows[:0]).shape == (0, 32)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("method", ["correlation", "cosine"])
def test_non_finite_values_are_located(kernels, bad, method):
    x = activations(20, 5000)
    x[18, 4999] = x[17, 256] = bad
    if bad == 3e38:
        x[17] = bad
    layer = SparseProjection(64).layer(5000, "conv1", method)
    if bad == 3e38 and method == "correlation":
        x[17, ::2] *= -1
    with pytest.raises(ValueError, match="activations of layer 'conv1' are NaN.* row 17"):
        layer.project(x)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "give either n_components or eps, not n_components=None and eps=None"),
        ({"n_components": 5, "eps": 0.1}, "not n_components=5 and eps=0.1"),
        ({"eps": 0.1}, "give both eps and n_conditions, not 0.1 and None"),
        ({"n_components": 9, "n_conditions": 5}, "both eps and n_conditions, not None and 5"),
        ({"eps": 1.0, "n_conditions": 5}, "eps must be between 0 and 1, not 1.0"),
        ({"eps": 0.0, "n_conditions": 5}, "eps must be between 0 and 1, not 0.0"),
        ({"eps": 0.1, "n_conditions": 1}, "n_conditions must be at least 2, not 1"),
        ({"n_components": 0}, "n_components must be between 1 and 8388608, not 0"),
        ({"eps": 0.001, "n_conditions": 99}, "n_components must be between 1 and 8388608, not 3"),
        ({"n_components": 10.5}, "n_components must be an integer, not 10.5"),
        ({"n_components": 10, "seed": "a"}, "seed must be an integer, not 'a'"),
        ({"n_components": 10, "seed": None}, "seed must be an integer, not None"),
        ({"n_components": 10, "density": "thin"}, "density must be 'li', 'achlioptas' or a number"),
        ({"n_components": 10, "density": 0}, "a number above 0 and up to 1, not 0"),
        ({"n_components": 10, "density": 1.5}, "a number above 0 and up to 1, not 1.5"),
        ({"n_components": 10, "density": None}, "a number above 0 and up to 1, not None"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SparseProjection(**options)


def test_wrong_layers_and_arrays_are_named():
    projection = SparseProjection(10)
    with pytest.raises(ValueError, match="'spearman' has no error bound for projections; use one"):
        projection.layer(500, "conv1", "spearman")
    with pytest.raises(ValueError, match="n_channels must be at least 1, not 0"):
        projection.layer(0)
    layer = projection.layer(500, "conv1")
    for wrong in (np.ones((3, 499)), np.ones(500), np.ones((3, 5, 101))):
        with pytest.raises(ValueError, match=r"layer 'conv1' have shape \(.*expects 500 channels"):
            layer.project(wrong)
    with pytest.raises(ValueError, match="activations of layer 'conv1' must hold real numbers"):
        layer.project(np.ones((3, 500), complex))
    rows = np.ones((3, 500), np.float32)
    for out in (
        np.empty((3, 10)),
        np.empty((3, 11), np.float32),
        np.empty((3, 10), np.float32, order="F"),
    ):
        with pytest.raises(ValueError, match=r"out must be a C-contiguous float32 .* \(3, 10\)"):
            layer.project(rows, out=out)
    with pytest.raises(ValueError, match="10 components have no bound for 50 conditions; .* 93"):
        layer.bound(50)
    with pytest.raises(ValueError, match="n_conditions must be at least 2, not 1"):
        layer.bound(1)
