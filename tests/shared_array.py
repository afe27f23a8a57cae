"""An array of another library, that shares its memory by DLPack only."""

import sys

import numpy as np


class SharedArray:
    """Memory of a NumPy array; with a `device`, (type, number) of DLPack, it claims to be there."""

    def __init__(self, array, device=None):
        self.array = np.asarray(array)
        self.device = device or (1, 0)
        self.ndim, self.shape = self.array.ndim, self.array.shape

    def __dlpack__(self, **options):
        if self.device[0] != 1:
            raise BufferError("the memory is on a device")
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return self.device

    def __array_namespace__(self, api_version=None):
        return sys.modules[__name__]


def from_dlpack(array):
    """Share the memory of an array, as the array API standard has it."""
    return SharedArray(np.from_dlpack(array))
