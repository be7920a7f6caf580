"""Sphinx's settings for the site. `scripts/site` gathers the pages and builds them; see docs/site.md for why Sphinx."""

from importlib.metadata import version as version_of

project = "attention_collapse"
author = "The attention_collapse authors"
project_copyright = "the attention_collapse authors, MIT licence"
version = release = version_of("attention-collapse")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"Attention collapse {version}"
html_show_sourcelink = False
html_copy_source = False
html_static_path: list[str] = []

# Markdown as GitHub reads it: links to headings go by GitHub's own names for them.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]

# Docstrings: a word between single backticks is code, as in Markdown.
default_role = "code"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {name: name for name in ("ArrayLike", "Floats", "Function", "Inputs", "Rng", "Score")}
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 80

# A link of a page must lead somewhere. Types in signatures may be those of other packages, which have no page here.
nitpicky = False
