"""Networks whose weights are replaced."""

import warnings

import ml_dtypes
import numpy as np
import pytest
import torch

from fastrdm.runtimes import swapped


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("writeable", [True, False])
def test_arrays_become_tensors_on_their_memory_without_a_warning(kind, writeable):
    array = np.arange(6).reshape(2, 3).astype(kind)
    array.flags.writeable = writeable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = swapped._tensor(array)
    assert (
        str(tensor.dtype) == f"torch.{array.dtype.name}" and tensor.data_ptr() == array.ctypes.data
    )
    assert torch.equal(tensor.double(), torch.arange(6.0).double().reshape(2, 3))
