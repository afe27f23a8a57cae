"""What is nobody's: what every other package may need and none is about.

In come arguments, files and packages as users have them; out go checked arrays, files that appear when they are
complete, and one sentence where something is missing. Nothing here knows what an RDM is, beyond how its entries lie.

Read `extras` first (packages that only some uses need), then `environment` (versions; what the system's programs say)
and `lazy` (names that a package imports when they are first asked for). `given` makes plain arrays of tensors, tables
and lists, `labels` compares the labels that they carry, `forms` checks arguments and turns condensed RDMs into square
ones; `arrays` reads arrays out of .npy, .npz, .mat and .csv; `files` writes a file so that no reader sees half of it.
`footprint` estimates what an ONNX graph takes to run.
"""

from fastrdm._base.arrays import UNNAMED, read_arrays
from fastrdm._base.environment import __version__, ask, versions
from fastrdm._base.extras import MissingExtraError, require
from fastrdm._base.files import new_file
from fastrdm._base.forms import (
    ASYMMETRY,
    as_array,
    as_floats,
    as_rdms,
    check_finite,
    checked_triangle,
    condense,
    is_similarity,
    listed,
    n_conditions,
    names_of,
    not_finite,
    square,
    upper_triangle,
    warn_caller,
    warn_similarities,
)
from fastrdm._base.given import depth
from fastrdm._base.labels import CHANNELS, PAIRS, Labels, agreed, labels_of, rdm_labels
from fastrdm._base.lazy import offer

__all__ = [
    "ASYMMETRY",
    "CHANNELS",
    "PAIRS",
    "UNNAMED",
    "Labels",
    "MissingExtraError",
    "__version__",
    "agreed",
    "as_array",
    "as_floats",
    "as_rdms",
    "ask",
    "check_finite",
    "checked_triangle",
    "condense",
    "depth",
    "is_similarity",
    "labels_of",
    "listed",
    "n_conditions",
    "names_of",
    "new_file",
    "not_finite",
    "offer",
    "rdm_labels",
    "read_arrays",
    "require",
    "square",
    "upper_triangle",
    "versions",
    "warn_caller",
    "warn_similarities",
]
