"""Pieces that every package may need: argument checks, messages, array files, optional packages.

In come arguments, files and packages; out go checked arrays, complete files, and one-sentence errors. Nothing here
depends on what an RDM means, only on how its entries are stored.

Read `extras` first (optional packages), then `environment` (versions, system programs) and `lazy` (names imported on
first use). `text`, `units` and `checks` hold pieces of messages, bytes and seconds as text, and checks of arguments.
`conversion` makes arrays of tensors, tables and lists, `labels` compares the labels that these carry, and `forms`
converts between condensed and square RDMs. `contents` lists and reads what a file holds, with a module for each family
of formats (`hdf5` with `hdf5_heaps`, `matlab5` and `matlab4`, `numpy_files`, `pickles` on `unpickling`) and the bounds
on what files may expand to (`expansion`); `arrays` reads all its arrays, `stored_arrays` reads arrays in parts. `files`
writes files that appear only when complete, and checks before work that a file can be written; `array_files` are such
files of named arrays, which processes map. `settings_files` reads TOML, JSON and lists within bounds.
`warning_records` records warnings in any thread.
`variance_shares` divides R² among the predictors that have it in common.
"""

from typing import TYPE_CHECKING

from fastrdm._base.environment import __version__, run_program, versions
from fastrdm._base.extras import MissingExtraError, require
from fastrdm._base.files import (
    check_private_folder,
    check_writable_file,
    check_writable_folder,
    existing_name,
    file_stamp,
    leaves_folder,
    make_private_folder,
    new_file,
    new_text_file,
    open_regular,
)
from fastrdm._base.lazy import lazy_attributes
from fastrdm._base.text import (
    counted,
    encodable,
    error_text,
    first_line,
    first_sentence,
    is_expected,
    json_text,
    list_names,
    natural_key,
    nearest,
    nearest_known,
    one_line,
    printable,
    suggestion,
    unescaped,
)
from fastrdm._base.units import format_bytes, format_seconds, parse_bytes
from fastrdm._base.warning_records import issue, recorded_warnings, warn_caller

if TYPE_CHECKING:
    from fastrdm._base.array_files import ArrayFormat, Blocks, damaged, write_blocks
    from fastrdm._base.arrays import read_arrays
    from fastrdm._base.axis_names import STIMULUS, axis_of, check_conditions_first
    from fastrdm._base.checks import (
        check_choice,
        check_finite,
        check_fraction,
        check_integer,
        choose,
        finite_error,
    )
    from fastrdm._base.contents import (
        CELL,
        GROUP,
        NUMBERS,
        STRUCT,
        TEXT,
        Contents,
        Entry,
        kind_of,
        open_contents,
    )
    from fastrdm._base.conversion import depth
    from fastrdm._base.expansion import check_expansion
    from fastrdm._base.forms import (
        ASYMMETRY,
        as_array,
        as_floats,
        as_rdms,
        checked_triangle,
        condense,
        is_similarity,
        square,
        upper_triangle,
        warn_similarities,
    )
    from fastrdm._base.label_orders import (
        LabelOrder,
        check_labelled_size,
        find_order,
        in_order_of,
        pairs_in_order,
        per_condition,
        warn_reordered,
    )
    from fastrdm._base.labelled import (
        axis_labels,
        kind_of_table,
        names_of,
        pair_names_of,
        row_names,
        with_names,
        with_pairs,
        with_values,
    )
    from fastrdm._base.labels import (
        CHANNELS,
        CONDITIONS,
        PAIRS,
        Labels,
        common_labels,
        condition_names,
        labels_of,
        rdm_labels,
    )
    from fastrdm._base.numpy_files import UNNAMED, check_members
    from fastrdm._base.pair_labels import ConditionNames, conditions_of_pairs, n_conditions
    from fastrdm._base.settings_files import (
        parse_json,
        read_column,
        read_json,
        read_lines,
        read_toml,
    )
    from fastrdm._base.stored_arrays import StoredArray, StoredArrays, open_arrays, read_members
    from fastrdm._base.unpickling import BoundedUnpickler, StandIn, expanded_size
    from fastrdm._base.variance_shares import all_combinations, combination_row, common_shares
else:
    # These modules import NumPy, which takes longer than the rest of `fastrdm --help`.
    __getattr__ = lazy_attributes(
        __name__,
        {
            "fastrdm._base.array_files": ["ArrayFormat", "Blocks", "damaged", "write_blocks"],
            "fastrdm._base.arrays": ["read_arrays"],
            "fastrdm._base.axis_names": ["STIMULUS", "axis_of", "check_conditions_first"],
            "fastrdm._base.checks": [
                "check_choice",
                "check_finite",
                "check_fraction",
                "check_integer",
                "choose",
                "finite_error",
            ],
            "fastrdm._base.contents": [
                "CELL",
                "GROUP",
                "NUMBERS",
                "STRUCT",
                "TEXT",
                "Contents",
                "Entry",
                "kind_of",
                "open_contents",
            ],
            "fastrdm._base.conversion": ["depth"],
            "fastrdm._base.expansion": ["check_expansion"],
            "fastrdm._base.forms": [
                "ASYMMETRY",
                "as_array",
                "as_floats",
                "as_rdms",
                "checked_triangle",
                "condense",
                "is_similarity",
                "square",
                "upper_triangle",
                "warn_similarities",
            ],
            "fastrdm._base.label_orders": [
                "LabelOrder",
                "check_labelled_size",
                "find_order",
                "in_order_of",
                "pairs_in_order",
                "per_condition",
                "warn_reordered",
            ],
            "fastrdm._base.labelled": [
                "axis_labels",
                "kind_of_table",
                "names_of",
                "pair_names_of",
                "row_names",
                "with_names",
                "with_pairs",
                "with_values",
            ],
            "fastrdm._base.pair_labels": ["ConditionNames", "conditions_of_pairs", "n_conditions"],
            "fastrdm._base.labels": [
                "CHANNELS",
                "CONDITIONS",
                "PAIRS",
                "Labels",
                "common_labels",
                "condition_names",
                "labels_of",
                "rdm_labels",
            ],
            "fastrdm._base.numpy_files": ["UNNAMED", "check_members"],
            "fastrdm._base.settings_files": [
                "parse_json",
                "read_column",
                "read_json",
                "read_lines",
                "read_toml",
            ],
            "fastrdm._base.stored_arrays": [
                "StoredArray",
                "StoredArrays",
                "open_arrays",
                "read_members",
            ],
            "fastrdm._base.unpickling": ["BoundedUnpickler", "StandIn", "expanded_size"],
            "fastrdm._base.variance_shares": [
                "all_combinations",
                "combination_row",
                "common_shares",
            ],
        },
    )

__all__ = [
    "ASYMMETRY",
    "CELL",
    "CHANNELS",
    "CONDITIONS",
    "GROUP",
    "NUMBERS",
    "PAIRS",
    "STIMULUS",
    "STRUCT",
    "TEXT",
    "UNNAMED",
    "ArrayFormat",
    "Blocks",
    "BoundedUnpickler",
    "ConditionNames",
    "Contents",
    "Entry",
    "LabelOrder",
    "Labels",
    "MissingExtraError",
    "StandIn",
    "StoredArray",
    "StoredArrays",
    "__version__",
    "all_combinations",
    "as_array",
    "as_floats",
    "as_rdms",
    "axis_labels",
    "axis_of",
    "check_choice",
    "check_conditions_first",
    "check_expansion",
    "check_finite",
    "check_fraction",
    "check_integer",
    "check_labelled_size",
    "check_members",
    "check_private_folder",
    "check_writable_file",
    "check_writable_folder",
    "checked_triangle",
    "choose",
    "combination_row",
    "common_labels",
    "common_shares",
    "condense",
    "condition_names",
    "conditions_of_pairs",
    "counted",
    "damaged",
    "depth",
    "encodable",
    "error_text",
    "existing_name",
    "expanded_size",
    "file_stamp",
    "find_order",
    "finite_error",
    "first_line",
    "first_sentence",
    "format_bytes",
    "format_seconds",
    "in_order_of",
    "is_expected",
    "is_similarity",
    "issue",
    "json_text",
    "kind_of",
    "kind_of_table",
    "labels_of",
    "lazy_attributes",
    "leaves_folder",
    "list_names",
    "make_private_folder",
    "n_conditions",
    "names_of",
    "natural_key",
    "nearest",
    "nearest_known",
    "new_file",
    "new_text_file",
    "one_line",
    "open_arrays",
    "open_contents",
    "open_regular",
    "pair_names_of",
    "pairs_in_order",
    "parse_bytes",
    "parse_json",
    "per_condition",
    "printable",
    "rdm_labels",
    "read_arrays",
    "read_column",
    "read_json",
    "read_lines",
    "read_members",
    "read_toml",
    "recorded_warnings",
    "require",
    "row_names",
    "run_program",
    "square",
    "suggestion",
    "unescaped",
    "upper_triangle",
    "versions",
    "warn_caller",
    "warn_reordered",
    "warn_similarities",
    "with_names",
    "with_pairs",
    "with_values",
    "write_blocks",
]
