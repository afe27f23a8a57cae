"""What is nobody's: what every other package may need and none is about.

In come arguments, files and packages as users have them; out go checked arrays, files that appear when they are
complete, and one sentence where something is missing. Nothing here knows what an RDM is, beyond how its entries lie.

Read `extras` first (packages that only some uses need), then `environment` (versions; what the system's programs say)
and `lazy` (names that a package imports when they are first asked for). `given` makes plain arrays of tensors, tables
and lists, `labels` compares the labels that they carry, `forms` checks arguments and turns condensed RDMs into square
ones; `arrays` reads arrays out of .npy, .npz, .mat and .csv; `files` writes a file so that no reader sees half of it.
`text`, `units` and `checks` have the pieces of messages, bytes and seconds as text, and checks of arguments.
"""

from fastrdm._base.arrays import UNNAMED, read_arrays
from fastrdm._base.checks import (
    check_choice,
    check_finite,
    check_fraction,
    check_integer,
    choose,
    not_finite,
)
from fastrdm._base.environment import __version__, ask, versions
from fastrdm._base.extras import MissingExtraError, require
from fastrdm._base.files import new_file
from fastrdm._base.forms import (
    ASYMMETRY,
    as_array,
    as_floats,
    as_rdms,
    checked_triangle,
    condense,
    is_similarity,
    n_conditions,
    names_of,
    square,
    upper_triangle,
    warn_caller,
    warn_similarities,
)
from fastrdm._base.conversion import depth
from fastrdm._base.labels import CHANNELS, PAIRS, Labels, agreed, labels_of, rdm_labels
from fastrdm._base.lazy import offer
from fastrdm._base.text import (
    counted,
    first_line,
    first_sentence,
    list_names,
    nearest,
    one_line,
    suggestion,
)
from fastrdm._base.units import format_bytes, format_seconds, parse_bytes

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
    "check_choice",
    "check_finite",
    "check_fraction",
    "check_integer",
    "checked_triangle",
    "choose",
    "condense",
    "counted",
    "depth",
    "first_line",
    "first_sentence",
    "format_bytes",
    "format_seconds",
    "is_similarity",
    "labels_of",
    "list_names",
    "n_conditions",
    "names_of",
    "nearest",
    "new_file",
    "not_finite",
    "offer",
    "one_line",
    "parse_bytes",
    "rdm_labels",
    "read_arrays",
    "require",
    "square",
    "suggestion",
    "upper_triangle",
    "versions",
    "warn_caller",
    "warn_similarities",
]
