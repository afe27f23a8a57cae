"""The page of a report: template, style, scripts and data in one file that needs no network."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from fastrdm._base import __version__, printable, require

_SCRIPTS = ("data.js", "elements.js", "table.js", "charts.js", "rdms.js", "main.js")


def page_of(report: Mapping[str, Any]) -> str:
    """The page with a report's data, as HTML.

    Its security policy allows the page's own scripts, by their hashes, and neither other scripts nor the network.
    """
    bundle = _bundle() if report["charts"] else ""
    script = f'"use strict";\n(() => {{\n{"".join(map(_part, _SCRIPTS))}}})();'
    hashes = " ".join(f"'sha256-{_digest(each)}'" for each in (bundle, script))
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )
    texts = {
        "csp": policy,
        "version": html.escape(__version__),
        "title": html.escape(printable(str(report["title"]))),
        "style": _part("style.css"),
        "data": json_for_html(report),
        "bundle": bundle,
        "script": script,
    }
    pieces = _part("page.html").split("{{")
    page = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        page += [texts[name], rest]
    return "".join(page)


def json_for_html(value: object) -> str:
    """JSON that a script element can hold: no character in it begins a tag, a comment or a line of its own."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    # ASCII, because json.dumps escapes all other characters.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, of the version that Altair's charts need."""
    altair = require("altair", "report", "to write reports")
    vl_convert = require("vl_convert", "report", "to write reports")
    version = ".".join(altair.SCHEMA_VERSION.split(".")[:2])
    text: str = vl_convert.javascript_bundle(vl_version=version)
    # A function of its own, because the bundle has names of one letter. In a string, a slash may have a backslash.
    text = text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    return f"(() => {{{text}}})();"


def _part(name: str) -> str:
    return files("fastrdm.report").joinpath("page", name).read_text("utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
