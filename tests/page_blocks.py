"""The fenced blocks of the documentation's Markdown pages, as CommonMark reads them."""

import re
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT
from markdown_it import MarkdownIt

#: In an HTML comment before a block: why it is checked without being run.
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(.+?)\s*-->", re.S)
_DIRECTIVE = re.compile(r"\{([\w:-]+)\}\s*(\S*)")
_ALIASES = {
    "bash": "sh",
    "shell": "sh",
    "py": "python",
    "python3": "python",
    "ipython3": "python",
    "yml": "yaml",
}


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its first line of text (from 1), its language, and its text."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str = ""

    @property
    def place(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages():
    """The pages of the documentation, relative to the root."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    names = [page.relative_to(ROOT).as_posix() for page in found if page.is_file()]
    # The build of the site writes into these.
    return [name for name in names if "/generated/" not in name and "/auto_" not in name]


def read_blocks(page):
    """All fenced blocks of a page in order; those inside directives of MyST too."""
    return list(_blocks(page, page.read_text(encoding="utf-8"), 0))


def _blocks(page, text, offset):
    reason = ""
    for token in MarkdownIt().parse(text):
        if token.type == "html_block":
            found = _NOT_RUN.search(token.content)
            reason = found.group(1) if found else ""
        elif token.type == "fence":
            line = offset + token.map[0] + 1
            directive = _DIRECTIVE.match(token.info.strip())
            if directive and directive.group(1) not in ("code-cell", "code-block", "code"):
                yield from _inside(page, directive.group(1), token.content, line)
            else:
                language = directive.group(2) if directive else token.info.strip().partition(" ")[0]
                content = _without_options(token.content) if directive else token.content
                language = _ALIASES.get(language.lower(), language.lower())
                yield Block(page, line + 1, language, content, reason)
            reason = ""
        elif token.type == "code_block":
            yield Block(page, offset + token.map[0] + 1, "indented", token.content)
        elif not token.type.endswith("_open"):
            reason = ""


def _inside(page, directive, text, line):
    """The blocks inside a directive: fences, and code of reStructuredText, which no test can run."""
    if directive == "eval-rst":
        if re.search(r"code(-block|-cell)?::|>>>", text):
            yield Block(page, line + 1, "eval-rst", text)
    else:
        yield from (each for each in _blocks(page, text, line) if each.language != "indented")


def _without_options(text):
    """A directive's text, with empty lines in place of its options (`:tags: [...]`)."""
    lines = text.splitlines(keepends=True)
    for i, line in enumerate(lines):
        if not line.startswith(":"):
            break
        lines[i] = "\n"
    return "".join(lines)
