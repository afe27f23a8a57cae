"""The role of single backticks in docstrings: a link if the name is documented, and otherwise code."""

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxRole


class OptionalRole(SphinxRole):
    def run(self):
        name = self.text.removesuffix("()")
        reference = pending_xref(
            "",
            nodes.literal(self.rawtext, self.text, classes=["xref"]),
            refdomain="py",
            reftype="obj",
            reftarget=name,
            refexplicit=True,
            refdoc=self.env.docname,
            refwarn=False,
            optional=True,
        )
        reference["py:module"] = self.env.ref_context.get("py:module")
        reference["py:class"] = self.env.ref_context.get("py:class")
        self.set_source_info(reference)
        return [reference], []


def code_instead(app, env, node, content):
    return content if node.get("optional") else None


def setup(app):
    app.add_role("optional", OptionalRole())
    app.connect("missing-reference", code_instead)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
