"""Tables as files and DataFrames: CSV, JSON, Parquet, Excel."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Protocol

from fastrdm._base import encodable, json_text, new_file, printable, require
from fastrdm.scoring.cells import csv_cells, is_formula

if TYPE_CHECKING:
    import pandas

_ROWS_AT_ONCE = 50_000
# Of an Excel sheet, with its header.
_MOST_ROWS = 1 << 20


class Table(Protocol):
    """What can be written: names and types of columns, and rows."""

    columns: dict[str, type]

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows."""


def frame_of(table: Table) -> "pandas.DataFrame":
    """A table as a pandas DataFrame; integers with missing values have the type Int64."""
    pandas = require("pandas", "table", "to make a DataFrame")
    frame = pandas.DataFrame(table.rows(), columns=list(table.columns), dtype=object)
    kinds = {str: "object", int: "int64", float: "float64"}
    types = {name: kinds[kind] for name, kind in table.columns.items()}
    for name, kind in types.items():
        if kind == "int64" and frame[name].isna().any():
            types[name] = "Int64"
    return frame.astype(types)


def write_csv(table: Table, file: IO[str], raw_cells: bool = False) -> None:
    """Write CSV; numbers keep all bits; cells of text as for `csv_cells`."""
    writer = csv.writer(file)
    writer.writerow(csv_cells(table.columns, raw_cells))
    for row in table.rows():
        writer.writerow(csv_cells(row, raw_cells))


def write_json(table: Table, file: IO[str], raw_cells: bool = False) -> None:
    """Write a JSON array with an object for each row; NaN and infinity, which JSON does not have, are null."""
    separator = "[\n"
    for row in table.rows():
        values = (None if isinstance(v, float) and not math.isfinite(v) else v for v in row)
        record = dict(zip(table.columns, values, strict=True))
        file.write(separator + json_text(record, ascii_only=False))
        separator = ",\n"
    file.write("[]\n" if separator == "[\n" else "\n]\n")


def _write_parquet(table: Table, file: BinaryIO, raw_cells: bool = False) -> None:
    arrow = require("pyarrow", "table", "to write Parquet")
    parquet = require("pyarrow.parquet", "table", "to write Parquet")
    kinds = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in table.columns.items()])
    with parquet.ParquetWriter(file, schema) as writer:
        rows = table.rows()
        while block := list(islice(rows, _ROWS_AT_ONCE)):
            values = ([_encodable(v) for v in column] for column in zip(*block, strict=True))
            arrays = [arrow.array(v, f.type) for v, f in zip(values, schema, strict=True)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def _encodable(value: Any) -> Any:
    return encodable(value) if isinstance(value, str) else value


def _write_xlsx(table: Table, file: BinaryIO, raw_cells: bool = False) -> None:
    openpyxl = require("openpyxl", "table", "to write Excel files")
    illegal = require("openpyxl.cell.cell", "table", "to write Excel files").ILLEGAL_CHARACTERS_RE
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("results")
    sheet.freeze_panes = "A2"
    cell_of = require("openpyxl.cell", "table", "to write Excel files").WriteOnlyCell

    def cell(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None if math.isnan(value) else str(value)
        if isinstance(value, str):
            text = illegal.sub("\N{REPLACEMENT CHARACTER}", value)
            made = cell_of(sheet, printable(text))
            # By default, openpyxl makes a formula of text that begins with =, and an error of text such as #N/A.
            made.data_type = "s"
            # As an apostrophe before the text does in a cell; it also stays in a CSV file saved by Excel.
            made.quotePrefix = is_formula(value) and not raw_cells
            return made
        return value

    try:
        sheet.append([cell(name) for name in table.columns])
        for number, row in enumerate(table.rows(), 2):
            if number > _MOST_ROWS:
                raise ValueError(
                    f"the table has more than the {_MOST_ROWS:,} rows of an Excel sheet; write .csv or .parquet,"
                    " or choose rows"
                )
            sheet.append([cell(value) for value in row])
    finally:
        sheet.close()
    # Not into the file: when a disk is full, the archive that is not finished would print an error of its own.
    content = io.BytesIO()
    book.save(content)
    file.write(content.getbuffer())


_TEXTS: Mapping[str, Callable[[Table, IO[str], bool], None]] = {
    "csv": write_csv,
    "json": write_json,
}


def _as_bytes(
    write: Callable[[Table, IO[str], bool], None],
) -> Callable[[Table, BinaryIO, bool], None]:
    def write_bytes(table: Table, file: BinaryIO, raw_cells: bool) -> None:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        write(table, text, raw_cells)
        text.flush()
        text.detach()

    return write_bytes


_WRITERS: Mapping[str, Callable[[Table, BinaryIO, bool], None]] = {
    "csv": _as_bytes(write_csv),
    "json": _as_bytes(write_json),
    "parquet": _write_parquet,
    "xlsx": _write_xlsx,
}
TABLE_FORMATS = tuple(_WRITERS)


def write_table(table: Table, path: str | Path, form: str, *, raw_cells: bool = False) -> None:
    """Write a file of a format ("csv", "json", "parquet", "xlsx"), which appears only when it is complete.

    `raw_cells` leaves text unquoted that spreadsheets would take for a formula.
    """
    with new_file(Path(path)) as file:
        _WRITERS[form](table, file, raw_cells)


def write_table_text(table: Table, file: IO[str], form: str, *, raw_cells: bool = False) -> None:
    """Write a table in a text format ("csv", "json") to an open file; `raw_cells` as for `write_table`."""
    _TEXTS[form](table, file, raw_cells)
