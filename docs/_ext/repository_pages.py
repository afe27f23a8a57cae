"""Markdown files outside docs/ as pages of the site, and links between all of them as they are on GitHub.

The files of `repository_pages` are copied into docs/generated/repository, with links from there.
"""

import os
import re
from pathlib import Path

from sphinx.addnodes import download_reference, pending_xref

SCRIPT = re.compile(r"(?:\.\./)*gallery/([\w/]+)\.py")
LINK = re.compile(r"(\]\()([^)\s#:]+)(?=[)#\s])")


def copy(app):
    docs = Path(app.srcdir)
    root = docs.parent
    copies = {
        root / name: docs / "generated/repository" / name for name in app.config.repository_pages
    }
    for source, page in copies.items():

        def from_page(link, source=source, page=page):
            linked = (source.parent / link[2]).resolve()
            return link[1] + os.path.relpath(copies.get(linked, linked), page.parent)

        text = LINK.sub(from_page, source.read_text(encoding="utf-8"))
        page.parent.mkdir(parents=True, exist_ok=True)
        # A file with a new time is read again.
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def resolve(app, doctree):
    """Point links to pages: of files outside docs/, which are absolute, and of the gallery's scripts.

    Links to other Markdown files become downloads, as those to files of other kinds are.
    """
    root = Path(app.srcdir).parent
    for node in list(doctree.findall(pending_xref)):
        target = node.get("reftarget", "")
        if target == "gallery/GALLERY_HEADER":
            node["reftarget"] = "generated/gallery/index"
        if node.get("refdomain") != "doc" or not Path(target).is_absolute():
            continue
        name = Path(target).relative_to(root).as_posix()
        if f"{name}.md" in app.config.repository_pages:
            node["reftarget"] = f"generated/repository/{name}"
        else:
            link = download_reference("", "", reftarget=f"/../{name}.md", refdoc=app.env.docname)
            link += node.children
            node.replace_self(link)
    for node in list(doctree.findall(download_reference)):
        if script := SCRIPT.fullmatch(node["reftarget"]):
            link = pending_xref(
                "",
                *node.children,
                refdomain="doc",
                reftype="myst",
                reftargetid=None,
                reftarget=f"generated/gallery/{script[1]}",
                refexplicit=True,
                refdoc=app.env.docname,
            )
            node.replace_self(link)


def setup(app):
    app.add_config_value("repository_pages", [], "env", [list])
    app.connect("builder-inited", copy)
    # Before Sphinx collects the files to download.
    app.connect("doctree-read", resolve, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
