"""A value that fastrdm has computed, beside the one that plain NumPy gives."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Check:
    """What was computed, the result, the expected one, and by how much they may differ."""

    what: str
    found: Any
    expected: Any
    within: float

    def error(self) -> float:
        """Return the largest difference; ValueError that names it if it is too large, or not a number."""
        if np.shape(self.found) != np.shape(self.expected):
            raise ValueError(
                f"{self.what}: shape {np.shape(self.found)}, expected {np.shape(self.expected)}"
            )
        error = float(np.abs(np.asarray(self.found) - np.asarray(self.expected)).max())
        if not error <= self.within:
            raise ValueError(f"{self.what} differs from NumPy by {error:.2g}")
        return error
