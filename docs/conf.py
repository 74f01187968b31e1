"""How Sphinx builds the site: ``python -m sphinx docs docs/_build``."""

import os
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

# Examples read the data sets from here, as the tests do; without the folder they are downloaded.
beside = HERE.parent.parent / "shared" / "data"
if beside.is_dir():
    os.environ.setdefault("SK_MTL_DATA", str(beside))

import sk_mtl  # noqa: E402

project = "sk_mtl"
author = "the sk_mtl developers"
project_copyright = "2026, the sk_mtl developers"
version = release = sk_mtl.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",  # formulas show without a network
    "diagrams",
    "sk_mtl_api",
    "search_spaces",
    "sk_mtl_docs",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "examples", "**/GALLERY_HEADER.rst"]
default_role = "py:obj"
language = "en"

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections hold the types
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
toc_object_entries_show_parents = "hide"
templates_path = ["_templates"]

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# An example's warning would be a reader's warning: it fails the build.
warnings.filterwarnings("ignore", message=".*FigureCanvasAgg is non-interactive.*")
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"[/\\]plot_",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("sk_mtl",),
    "reference_url": {"sk_mtl": None},
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 5,
    "write_computation_times": False,  # a page that loads scripts from elsewhere
    "nested_sections": False,
    "within_subsection_order": "gallery_order.ReadingOrder",
    "image_scrapers": ("matplotlib",),
    "ignore_repr_types": r"matplotlib\.|sk_mtl\.inspection\S*Display",  # the picture says it
    "matplotlib_animations": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "sk_mtl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_search_scorer = str(HERE / "_ext" / "search_order.js")  # the guide before the reference
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
html_sidebars = {"index": [], "install": [], "why": [], "zh/index": []}
