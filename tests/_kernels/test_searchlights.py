"""The kernels of searchlights, on a grid of channels and samples, against NumPy."""

import numpy as np
import pytest

from fastrdm import _kernels

N_CONDITIONS, N_SAMPLES = 6, 9
CHANNELS = np.array([0, 2, 3, 1, 2]), np.array([0, 3, 5])
STARTS, WIDTH = np.arange(0, 7), 3


def expected(data):
    """Squared distances of each list of channels, in each window."""
    i, j = np.triu_indices(N_CONDITIONS, 1)
    lists = np.split(CHANNELS[0], CHANNELS[1][1:-1])
    return np.stack(
        [
            ((data[i][:, each, s : s + WIDTH] - data[j][:, each, s : s + WIDTH]) ** 2).sum((1, 2))
            for each in lists
            for s in STARTS
        ]
    )


@pytest.mark.parametrize("kernel", ["searchlight", "sliding_searchlight"])
def test_sums_of_windows_equal_numpys(kernels, kernel):
    data = np.random.default_rng(0).normal(size=(N_CONDITIONS, 4, N_SAMPLES))
    rows = np.ascontiguousarray(data.reshape(N_CONDITIONS, -1).T)
    out = np.empty((2 * len(STARTS), N_CONDITIONS * (N_CONDITIONS - 1) // 2))
    if kernel == "searchlight":
        samples = (STARTS[:, None] + np.arange(WIDTH)).ravel(), np.arange(0, 22, WIDTH)
        _kernels.searchlight(rows, CHANNELS, N_SAMPLES, samples, "sqeuclidean", out)
    else:
        windows = STARTS, WIDTH, 0
        _kernels.sliding_searchlight(rows, CHANNELS, N_SAMPLES, windows, "sqeuclidean", out)
    np.testing.assert_allclose(out, expected(data), rtol=1e-12)
