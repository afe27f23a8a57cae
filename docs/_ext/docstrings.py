"""Docstrings as pages: links of names in single backticks, and the comments of constants.

A name in backticks is a link if it is documented, and otherwise code, as the names of arguments are.
"""

import sys

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.pycode import ModuleAnalyzer
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


def comment_of_constant(app, what, name, obj, options, lines):
    """Replace the docstring of a constant's type by the comment before the constant, where that is defined."""
    if what != "data":
        return
    constant = name.rpartition(".")[2]
    for module in [m for m in sys.modules if m.startswith("fastrdm.")]:
        if vars(sys.modules[module]).get(constant) is obj:
            analyzer = ModuleAnalyzer.for_module(module)
            analyzer.analyze()
            if comment := analyzer.attr_docs.get(("", constant)):
                lines[:] = comment
                return


def setup(app):
    app.add_role("optional", OptionalRole())
    app.connect("missing-reference", code_instead)
    app.connect("autodoc-process-docstring", comment_of_constant)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
