"""The documentation site: `make docs` builds it into build/docs/html. The build uses no network."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS / "_ext"))

import fastrdm  # noqa: E402

project = "fastrdm"
author = "The fastrdm developers"
project_copyright = author
version = release = fastrdm.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "sphinx_gallery.gen_gallery",
    "sphinx_design",
    "sphinx_copybutton",
    "formulas",
    "docstrings",
    "repository_pages",
]
# Every reference must have a target, apart from names in single backticks (see _ext/docstrings.py). There is no
# intersphinx, whose inventories come from the network; docstrings name types of other libraries as plain text.
nitpicky = True
default_role = "optional"
exclude_patterns = ["_*", "gallery", "generated/gallery/**/*.ipynb", "generated/gallery/**/*.py"]
templates_path = ["_templates"]

# Files of the repository outside docs/ that are pages of the site. Links to other files become downloads.
repository_pages = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "bench/README.md",
    "bench/RESULTS.md",
    "bench/RESULTS-avx512.md",
    "bench/RESULTS-gpu.md",
    "bench/RESULTS-rehearsal.md",
    "bench/RESULTS-searchlight.md",
    "models/RESULTS.md",
]

# Signatures without types, which the section "Parameters" has in words.
autodoc_typehints = "none"
# Default values as in the code, not as the objects print.
autodoc_preserve_defaults = True
# "On this page" is too narrow for the names of classes before those of their methods.
toc_object_entries_show_parents = "hide"
# Overridden methods of other libraries are described there.
autodoc_inherit_docstrings = False
autosummary_generate = True
# File systems that ignore case take these for the pages of the functions.
autosummary_filename_map = {
    f"fastrdm.{name}": f"fastrdm.{name}-class"
    for name in ("Bootstrap", "Gram", "Info", "Latencies")
}
numpydoc_show_class_members = False
# All checks of docstrings but those that would ask for filler: every section everywhere, parameters and returns of
# one-line methods whose summary says what they take and give, keyword arguments in the signature's order.
numpydoc_validation_checks = {
    "all",
    *("ES01", "EX01", "SA01", "SA03"),
    *("PR01", "PR03", "PR04", "PR07", "PR08", "RT01", "RT02", "RT03", "RT04", "SS05", "YD01"),
    *("GL02", "GL03"),
}
numpydoc_validation_exclude = {
    *("PROTOCOLS$", "COLOURS$"),  # data, described by comments
    r"Neighbourhoods\.(count|index)$",  # of collections.abc, without source
}

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

nb_execution_mode = "force"  # a cache would keep the output of older code
nb_execution_raise_on_error = True
nb_execution_timeout = 300

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "generated/gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_srcset": ["2x"],
    "capture_repr": (),
    "reset_modules": ("matplotlib", "gallery_figures.enlarge"),
    "show_signature": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "image_scrapers": ("matplotlib",),
    "abort_on_example_error": True,
    "min_reported_time": 1e6,
    "write_computation_times": False,
}

smartquotes = False  # quotes and -- are often code
html_math_renderer = "svg"
highlight_language = "text"
html_context = {"default_mode": "auto"}
html_theme = "pydata_sphinx_theme"
html_title = "fastrdm"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_sourcelink = False
html_copy_source = False
# Browsers refuse a script that reads other pages of a folder, as summaries need it.
html_show_search_summary = False
html_theme_options = {
    "logo": {
        "text": "fastrdm",
        "image_light": "_static/logo.svg",
        "image_dark": "_static/logo.svg",
    },
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_favicon = "_static/logo.svg"

# In the docstrings of collections.abc.
nitpick_ignore_regex = [("py:class", "integer -- .*")]
