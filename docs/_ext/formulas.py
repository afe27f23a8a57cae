"""Formulas as SVG, drawn by the build: pages need neither scripts nor the network, and screen readers get the TeX.

A formula with a command that is not known is a warning.
"""

import re
from xml.etree import ElementTree

import ziamath
from docutils import nodes
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
SIZE = 16  # pixels to an em
# Each formula has its own outlines, because ids are unique in a page.
ziamath.config.svg2 = False


def svg(node, inline):
    tex = " ".join(node.astext().split())
    formula = ziamath.Latex(tex, size=SIZE, color="currentColor", inline=inline)
    if unknown := re.findall(r"\\[A-Za-z]+", formula.mathmlstr()):
        LOGGER.warning("formula with unknown %s: %s", ", ".join(unknown), tex, location=node)
    image = formula.svgxml()
    for side in ("width", "height"):
        image.set(side, f"{float(image.get(side)) / SIZE:.4g}em")
    image.set("style", f"vertical-align: {formula.getyofst() / SIZE:.4g}em; fill: currentColor")
    image.set("role", "img")
    image.set("aria-label", tex)
    return ElementTree.tostring(image, encoding="unicode")


def visit_inline(translator, node):
    translator.body.append(svg(node, inline=True))
    raise nodes.SkipNode


def visit_block(translator, node):
    # Wide formulas scroll, also by keyboard.
    translator.body.append(
        f'<div class="formula" role="group" aria-label="formula" tabindex="0">{svg(node, inline=False)}</div>\n'
    )
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("svg", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
