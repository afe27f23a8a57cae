"""Cells of CSV and Excel files that a spreadsheet would run are quoted."""

import csv
from pathlib import Path

import openpyxl
import pytest
from store_writer import Writer, scored

from fastrdm.cli import main
from fastrdm.scoring import csv_cells

FORMULAS = ["=1+1", "+A1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "-0.5.pth"]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_quoted_by_default(text):
    (cell,) = csv_cells([text])
    assert cell.startswith("'") and cell.isprintable()
    assert csv_cells([text], raw_cells=True) == [text]


@pytest.mark.parametrize("value", ["-0.5", "+1e-3", "-.5", "a=1", "", 'say "="', -0.5, 3, None])
def test_numbers_and_other_text_stay_as_they_are(value):
    assert csv_cells([value]) == [value]


def test_raw_cells_can_be_written_in_utf_8():
    assert csv_cells(["=\udce9\x1b"], raw_cells=True) == ["=\\xe9\x1b"]


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = Writer("s.db")
    writer.record(scored(1, path="=cmd|'/c calc'!A0.pth", labels={"run": "@x", "low": "-0.5"}))
    writer.store.close()


def read(name):
    with Path(name).open(newline="", encoding="utf-8") as file:
        return next(csv.DictReader(file))


def test_tables_quote_formulas_unless_raw_cells(store, capsys):
    assert main(["table", "s.db", "--output", "t.csv"]) == 0
    row = read("t.csv")
    assert row["checkpoint"] == "'=cmd|'/c calc'!A0.pth" and row["run"] == "'@x"
    assert float(row["label_low"] if "label_low" in row else row["low"]) == -0.5
    assert main(["table", "s.db", "--output", "t.csv", "--raw-cells"]) == 0
    assert read("t.csv")["checkpoint"] == "=cmd|'/c calc'!A0.pth"
    capsys.readouterr()
    assert main(["table", "s.db", "--format", "csv"]) == 0
    assert "'=cmd" in capsys.readouterr().out


def test_excel_files_hold_formulas_as_quoted_text(store):
    for options, quoted in (([], True), (["--raw-cells"], False)):
        assert main(["table", "s.db", "--output", "t.xlsx", *options]) == 0
        cell = openpyxl.load_workbook("t.xlsx").active["A2"]
        assert cell.value == "=cmd|'/c calc'!A0.pth" and cell.data_type == "s"
        assert bool(cell.quotePrefix) is quoted
