"""A checked study as one HTML page, which needs no other file."""

import html
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from fastrdm._base import __version__, printable
from fastrdm.report.check_facts import (
    REGION_COLUMNS,
    RESPONSE_COLUMNS,
    fact_rows,
    region_notes,
    region_row,
    response_notes,
    response_row,
    size,
    source_lines,
)
from fastrdm.report.check_pictures import data_uri, rdm_pictures, thumbnails
from fastrdm.studies import RegionFacts, Stimulus, StudyCheck

if TYPE_CHECKING:
    from PIL.Image import Image
else:
    Image = object

# Pixels of a stored thumbnail, in a page of few or many.
_LARGE, _SMALL, _MANY = 224, 112, 300
# Networks with inputs up to this size are shown with visible pixels.
_PIXELATED = 96

_STYLE = """
:root { --ink: #1c2430; --soft: #5c6675; --line: #dfe3e9; --card: #fff; --page: #f5f6f8; --accent: #2f6f9f; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.45 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; margin: 0 0 2px; }
h2 { font-size: 17px; margin: 30px 0 10px; }
p.soft, .soft, figcaption { color: var(--soft); font-size: 13px; margin: 4px 0; }
section.study + section.study { border-top: 3px solid var(--line); margin-top: 50px; padding-top: 30px; }
.panel { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
.panel.wide { overflow-x: auto; }
th, td { text-align: left; padding: 5px 12px 5px 0; vertical-align: top; }
table.regions th { font-weight: 600; color: var(--soft); font-size: 12px; border-bottom: 1px solid var(--line); }
table.regions td { border-bottom: 1px solid var(--line); white-space: nowrap; }
table.facts th { width: 120px; font-weight: 600; color: var(--soft); }
td.path { overflow-wrap: anywhere; }
ul.findings { list-style: none; margin: 0; padding: 0; }
ul.findings li { padding: 8px 12px; margin: 0 0 8px; border-radius: 6px; border-left: 4px solid; overflow-wrap: anywhere; }
ul.findings li.suspicion { background: #fff7e3; border-color: #e0a100; }
ul.findings li.error { background: #fdebea; border-color: #c5372c; }
ul.findings li.fine { background: #eaf6ee; border-color: #2d8a4e; }
.kind { font-weight: 600; margin-right: 6px; }
.banner { background: #fff7e3; border: 1px solid #e0a100; border-radius: 8px; padding: 8px 14px; margin: 12px 0; font-weight: 600; }
.rdms { display: flex; flex-wrap: wrap; gap: 20px; }
figure { margin: 0; }
figure.rdm { width: 300px; }
figure.rdm img { width: 300px; height: 300px; image-rendering: pixelated; border: 1px solid var(--line); display: block; }
.scale { height: 10px; width: 300px; margin-top: 6px; border-radius: 2px;
  background: linear-gradient(to right, #440154, #3e4989, #26828e, #35b779, #b5de2b, #fde725); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(124px, 1fr)); gap: 10px; }
figure.card { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 6px; font-size: 12px; }
figure.card.marked { border-color: #e0a100; box-shadow: 0 0 0 1px #e0a100; }
figure.card img, .missing { width: 100%; aspect-ratio: var(--aspect); display: block; border-radius: 3px; }
figure.card.pixels img { image-rendering: pixelated; }
.missing { background: repeating-conic-gradient(#e6e6e6 0 25%, #fff 0 50%) 50% / 16px 16px; color: #c5372c; padding: 8px; overflow: hidden; }
figure.card figcaption { font-size: 12px; margin-top: 4px; overflow-wrap: anywhere; }
.row { color: var(--accent); font-weight: 600; margin-right: 5px; }
summary { cursor: pointer; font-size: 17px; font-weight: 600; margin: 30px 0 10px; }
"""  # noqa: E501


def check_page(checks: Sequence[StudyCheck]) -> str:
    """Return the page of checked studies."""
    title = f"fastrdm check: {', '.join(check.name for check in checks)}"
    body = "\n".join(line for check in checks for line in _study(check))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head>\n<body><main>\n{body}\n"
        f'<p class="soft">Made by fastrdm {_escape(__version__)}. Rows and subjects are counted from 0.</p>\n'
        "</main></body></html>\n"
    )


def _escape(text: str) -> str:
    """Text without markup, and without characters that hide what a name is."""
    return html.escape(printable(text))


def _study(check: StudyCheck) -> Iterator[str]:
    yield f'<section class="study"><h1>{_escape(check.name)}</h1>'
    if check.synthetic:
        yield '<p class="banner">SYNTHETIC DATA: simulated subjects, no brains</p>'
    yield "<h2>What looks wrong</h2>"
    yield from _findings(check)
    yield '<h2>Stimuli and order</h2><div class="panel"><table class="facts">'
    for label, text in fact_rows(check):
        yield f'<tr><th>{_escape(label)}</th><td class="path">{_escape(text)}</td></tr>'
    yield "</table></div>"
    if check.regions:
        yield from _regions(check)
    if check.responses:
        yield from _responses(check)
    if check.stimuli:
        yield "<h2>Stimuli as the network sees them, in the order of the rows</h2>"
        yield from _grid(check, check.stimuli)
    if check.test_stimuli:
        yield f"<details><summary>Test stimuli ({len(check.test_stimuli)})</summary>"
        yield from _grid(check, check.test_stimuli)
        yield "</details>"
    yield "</section>"


def _findings(check: StudyCheck) -> Iterator[str]:
    yield '<ul class="findings">'
    for text in check.errors:
        yield f'<li class="error"><span class="kind">error</span>{_escape(text)}</li>'
    for found in check.suspicions:
        kind = f'<span class="kind">{_escape(found.kind)}</span>'
        yield f'<li class="suspicion">{kind}{_escape(found.text)}</li>'
    if not (check.errors or check.suspicions):
        yield '<li class="fine">Nothing.</li>'
    yield "</ul>"


def _regions(check: StudyCheck) -> Iterator[str]:
    yield '<h2>Regions</h2><div class="panel wide"><table class="regions"><tr>'
    yield f"{_cells('th', [*REGION_COLUMNS, 'r of each subject with the others'])}</tr>"
    for facts in check.regions:
        yield f"<tr>{_cells('td', region_row(facts))}<td>{_bars(facts)}</td></tr>"
    yield "</table>"
    for note in (*region_notes(check.regions), *source_lines(check.regions)):
        yield f'<p class="soft">{_escape(note)}</p>'
    yield "</div><h2>RDMs averaged over subjects</h2>"
    yield '<div class="panel rdms">'
    for region, picture in rdm_pictures(check).items():
        yield (
            f'<figure class="rdm"><img alt="RDM of {_escape(region)}" src="{data_uri(picture, 600)}">'
            '<div class="scale"></div>'
            f"<figcaption>{_escape(region)}: percentiles of dissimilarity, 0 to 100; grey is NaN</figcaption></figure>"
        )
    yield "</div>"


def _responses(check: StudyCheck) -> Iterator[str]:
    yield '<h2>Responses</h2><div class="panel wide"><table class="regions">'
    yield f"<tr>{_cells('th', RESPONSE_COLUMNS)}</tr>"
    for summary in check.responses:
        yield f"<tr>{_cells('td', response_row(summary))}</tr>"
    yield "</table>"
    for note in response_notes(check.responses):
        yield f'<p class="soft">{_escape(note)}</p>'
    yield "</div>"


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{_escape(text)}</{tag}>" for text in texts)


def _bars(facts: RegionFacts) -> str:
    """Draw a bar for each subject, up or down from 0."""
    values = facts.leave_one_out
    if not values:
        return "–"
    width, half = 9, 18
    bars = []
    for i, r in enumerate(values):
        title = f"<title>{_escape(facts.subject(i))}: {r:.3f}</title>"
        # A subject whose correlation is undefined has no bar.
        height = 0.0 if math.isnan(r) else half * min(abs(r), 1)
        top = half - height if r >= 0 else half
        colour = "#2f6f9f" if r >= 0 else "#c5372c"
        bars.append(
            f'<rect x="{width * i}" y="{top:.1f}" width="{width - 2}" height="{height:.1f}" fill="{colour}">'
            f"{title}</rect>"
        )
    end = width * len(values)
    line = f'<line x1="0" x2="{end}" y1="{half}" y2="{half}" stroke="#9aa3b0" stroke-width="1"/>'
    return f'<svg width="{end}" height="{2 * half}" role="img">{"".join(bars)}{line}</svg>'


def _grid(check: StudyCheck, stimuli: Sequence[Stimulus]) -> Iterator[str]:
    height, width = check.preprocessing.size
    marked = {name for found in check.suspicions for name in found.stimuli}
    most = _LARGE if len(stimuli) <= _MANY else _SMALL
    yield f'<div class="grid" style="--aspect: {width} / {height}">'
    for each, picture in zip(stimuli, thumbnails(check, stimuli), strict=True):
        classes = "card marked" if each.name in marked else "card"
        classes += " pixels" if max(check.preprocessing.size) <= _PIXELATED else ""
        row = f'<span class="row">{each.row}</span>' if each.row >= 0 else ""
        yield (
            f'<figure class="{classes}" title="{_escape(str(each.path))}">{_picture(each, picture, most)}'
            f'<figcaption>{row}{_escape(each.name)}<br><span class="soft">{_escape(size(each))}'
            f" {_escape(each.image.format)}</span></figcaption></figure>"
        )
    yield "</div>"


def _picture(stimulus: Stimulus, picture: "Image | None", most: int) -> str:
    if picture is None:
        reason = stimulus.image.problem.rpartition("as an image: ")[2]
        return f'<div class="missing">refused: {_escape(reason)}</div>'
    return f'<img loading="lazy" alt="{_escape(stimulus.name)}" src="{data_uri(picture, most)}">'
