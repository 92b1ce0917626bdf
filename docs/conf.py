"""Settings of the documentation; `make docs` builds it, without a network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import imsim

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))
os.environ.setdefault("MPLBACKEND", "Agg")

project = "imsim"
author = "the imsim developers"
project_copyright = author
version = release = imsim.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "plain_markdown",  # docs/_extensions: directives that a code host does not show
    "mathml",  # docs/_extensions: formulas without a script from elsewhere
    "command_help",  # docs/_extensions: what the command says about itself
    "metric_pages",  # docs/_extensions: one page per metric, from registry and docstring
]
templates_path = ["_templates"]
exclude_patterns = ["_extensions", "_templates"]
default_role = "autolink"

# Markdown, so that the pages can be read in the repository too.
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

# Types stand in the docstrings, with shapes and units; signatures stay short.
autodoc_typehints = "none"
autodoc_default_options = {
    # Made by scikit-learn for its metadata routing, which nothing here takes part in.
    "exclude-members": ", ".join(
        f"set_{method}_request"
        for method in (
            "fit",
            "partial_fit",
            "predict",
            "decision_function",
            "transform",
            "reconstruct",
        )
    ),
}
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
nitpick_ignore_regex = [
    # Base classes and results of the standard library; its pages are not at hand offline.
    (r"py:.*", r"(AssertionError|ValueError|TypeError|UserWarning|ImportError|Warning|Mapping)"),
    # Arguments and fields that are called like something else.
    (r"py:obj", r"metrics|function|map_function|get_state"),
    # Parameters of classes whose signature is made of their fields.
    (r"py:obj", r"bottleneck|channels|data_range|false_alarm_rate|patch|trend|width"),
    (r"py:.*", r"(collections|typing|numpy|np|jax|equinox|pathlib|sklearn)\..*"),
]

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    # The others make no figure; the head of the gallery links them.
    "ignore_pattern": r"^(?!plot_).*\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "show_memory": False,
    "remove_config_comments": True,
    "reset_modules": ("matplotlib",),
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"imsim {release}"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["imsim.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_nav_level": 1,
    "header_links_before_dropdown": 6,
    # A button: the field would not fit beside the menu on screens of 1200 pixels.
    "navbar_persistent": ["search-button"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
