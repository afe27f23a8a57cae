"""A checked study as one picture, for people who cannot open HTML."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastrdm._base import printable, require
from fastrdm.report.check_facts import (
    REGION_COLUMNS,
    RESPONSE_COLUMNS,
    fact_rows,
    region_notes,
    region_row,
    response_notes,
    response_row,
    source_lines,
)
from fastrdm.report.check_pictures import rdm_pictures, thumbnails
from fastrdm.studies import StudyCheck

if TYPE_CHECKING:
    from PIL.Image import Image
else:
    Image = object

_WIDTH, _MARGIN, _GAP = 1400, 28, 12
_CELL, _RDM = 120, 300
_INK, _SOFT, _AMBER, _RED, _LINE = "#1c2430", "#5c6675", "#9a6b00", "#c5372c", "#dfe3e9"
_PLAIN, _LARGE, _SMALL = 15, 26, 12


class Sheet:
    """A white picture that is filled from top to bottom, and grows as needed."""

    def __init__(self) -> None:
        self._image = require("PIL.Image", "data", "to draw a check")
        self._draw = require("PIL.ImageDraw", "data", "to draw a check")
        self._fonts = require("PIL.ImageFont", "data", "to draw a check")
        self._pieces: list[tuple[int, int, Any]] = []
        self.y = _MARGIN

    def text(self, text: str, *, size: int = _PLAIN, colour: str = _INK) -> None:
        """Add lines of text, wrapped at the width of the sheet."""
        for line in textwrap.wrap(printable(text), int(1.75 * (_WIDTH - 2 * _MARGIN) / size)) or [
            ""
        ]:
            self.place(self.label(line, _WIDTH - 2 * _MARGIN, size, colour), _MARGIN, self.y)
            self.y += round(1.45 * size)

    def label(self, text: str, width: int, size: int = _SMALL, colour: str = _INK) -> "Image":
        """Return one line of text as a picture of a width; what does not fit is replaced by an ellipsis."""
        font = self._font(size)
        shown = printable(text)
        while shown and font.getlength(shown) > width:
            # The end of a name tells images apart more often than its start.
            shown = f"…{shown.lstrip('…')[1:]}"
        image: Image = self._image.new("RGB", (width, round(1.45 * size)), "white")
        self._draw.Draw(image).text((0, 0), shown, fill=colour, font=font)
        return image

    def cells(self, rows: Sequence[Sequence[str]]) -> None:
        """Add rows of text in aligned columns; the first row is the header."""
        font = self._font(13)
        widths = [
            max(font.getlength(printable(text)) for text in column)
            for column in zip(*rows, strict=True)
        ]
        for number, row in enumerate(rows):
            x = _MARGIN
            for text, width in zip(row, widths, strict=True):
                label = self.label(text, round(width) + 2, 13, _INK if number else _SOFT)
                self.place(label, x, self.y)
                x += round(width) + 18
            self.y += 21

    def place(self, picture: "Image", x: int, y: int) -> None:
        """Put a picture at a place."""
        self._pieces.append((x, y, picture))

    def missing(self, size: tuple[int, int]) -> "Image":
        """Return a picture in the place of one that is refused."""
        image: Image = self._image.new("RGB", size, "#f3e3e1")
        self._draw.Draw(image).text((8, 8), "refused", fill=_RED, font=self._font(_SMALL))
        return image

    def finish(self) -> "Image":
        """Return the picture."""
        right = max(x + piece.width for x, _, piece in self._pieces) + _MARGIN
        sheet: Image = self._image.new("RGB", (max(_WIDTH, right), self.y + _MARGIN), "white")
        for x, y, piece in self._pieces:
            sheet.paste(piece.convert("RGB"), (x, y))
        return sheet

    def _font(self, size: int) -> Any:
        try:
            return self._fonts.truetype("DejaVuSans.ttf", size)
        except OSError:
            # Pillow's own font, which has fewer characters.
            return self._fonts.load_default(size)


def check_picture(checks: Sequence[StudyCheck]) -> "Image":
    """Return the picture of checked studies, one below the other."""
    sheet = Sheet()
    for check in checks:
        _add_study(sheet, check)
        sheet.y += 2 * _MARGIN
    sheet.text("Rows and subjects are counted from 0.", size=_SMALL, colour=_SOFT)
    return sheet.finish()


def _add_study(sheet: Sheet, check: StudyCheck) -> None:
    sheet.text(check.name, size=_LARGE)
    if check.synthetic:
        sheet.text("SYNTHETIC DATA: simulated subjects, no brains", colour=_AMBER)
    for label, text in fact_rows(check):
        sheet.text(f"{label}: {text}")
    sheet.y += _GAP
    for text in check.errors:
        sheet.text(f"error: {text}", colour=_RED)
    for found in check.suspicions:
        sheet.text(f"{found.kind}: {found.text}", colour=_AMBER)
    if not (check.errors or check.suspicions):
        sheet.text("nothing looks wrong")
    sheet.y += _GAP
    if check.regions:
        sheet.cells([REGION_COLUMNS, *map(region_row, check.regions)])
        for note in (*region_notes(check.regions), *source_lines(check.regions)):
            sheet.text(note, size=_SMALL, colour=_SOFT)
        sheet.y += _GAP
        _add_rdms(sheet, check)
    if check.responses:
        sheet.cells([RESPONSE_COLUMNS, *map(response_row, check.responses)])
        for note in response_notes(check.responses):
            sheet.text(note, size=_SMALL, colour=_SOFT)
        sheet.y += _GAP
    _add_thumbnails(sheet, check)


def _add_rdms(sheet: Sheet, check: StudyCheck) -> None:
    sheet.text("RDMs averaged over subjects, percentiles of dissimilarity (grey is NaN)")
    nearest = require("PIL.Image", "data", "to draw a check").Resampling.NEAREST
    _add_row(
        sheet,
        [
            (picture.convert("RGB").resize((_RDM, _RDM), nearest), [region])
            for region, picture in rdm_pictures(check).items()
        ],
    )


def _add_thumbnails(sheet: Sheet, check: StudyCheck) -> None:
    if not check.stimuli:
        return
    sheet.text("Stimuli as the network sees them, in the order of the rows")
    pil = require("PIL.Image", "data", "to draw a check")
    height, width = check.preprocessing.size
    scale = _CELL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    filter_ = pil.Resampling.BOX if scale < 1 else pil.Resampling.NEAREST
    cells = []
    for each, picture in zip(check.stimuli, thumbnails(check, check.stimuli), strict=True):
        shown = sheet.missing(size) if picture is None else picture.resize(size, filter_)
        cells.append((shown, [str(each.row), each.name]))
    _add_row(sheet, cells)


def _add_row(sheet: Sheet, cells: Sequence[tuple["Image", Sequence[str]]]) -> None:
    """Add pictures with lines of text below, from left to right and top to bottom."""
    if not cells:
        return
    width = max(picture.width for picture, _ in cells)
    height = max(picture.height for picture, _ in cells)
    per_row = max(1, (_WIDTH - 2 * _MARGIN + _GAP) // (width + _GAP))
    line = round(1.45 * _SMALL)
    for start in range(0, len(cells), per_row):
        for place, (picture, lines) in enumerate(cells[start : start + per_row]):
            x = _MARGIN + place * (width + _GAP)
            sheet.place(picture, x, sheet.y)
            for number, text in enumerate(lines):
                colour = _SOFT if number == 0 and len(lines) > 1 else _INK
                label = sheet.label(text, width, _SMALL, colour)
                sheet.place(label, x, sheet.y + height + 3 + number * line)
        sheet.y += height + 3 + line * len(cells[start][1]) + _GAP
