"""Reading of all arrays in a file."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrdm._base.contents import NUMBERS, open_contents


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of numbers at the top level of a file, by name.

    The format is recognised by the content, not the file's name: MATLAB of any version, HDF5, netCDF, NumPy, a pickle
    of arrays. MATLAB v7.3 files store axes in reverse, so their arrays are transposed; in other HDF5 files axes are as
    they are, unless only the first two can be those of an RDM. A `.npy` file is a structured array, a pickled dict, or
    a single array, returned under the key `UNNAMED`. Unpickling runs only constructors of arrays; a pickle with other
    objects is a ValueError, as is a folder, a truncated file, or an unknown format.
    """
    contents = open_contents(path)
    return {
        key: np.asarray(contents.read(key))
        for key, entry in contents.entries.items()
        if entry.kind == NUMBERS and not entry.is_nested
    }
