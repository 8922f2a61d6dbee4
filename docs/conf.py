"""Sphinx's settings of the site. `docs/build.py` calls Sphinx, once for each language."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jaxopt_ko  # noqa: E402

project = "jaxopt_ko"
author = "the authors of jaxopt_ko"
copyright = author
version = release = jaxopt_ko.__version__
language = "en"  # or ko, by -D
extensions = [
    "myst_nb", "sitegen.mathml", "sitegen.search_ko", "sitegen.translation", "sitegen.links",
]  # fmt: skip
exclude_patterns: list[str] = []
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb"}
nitpicky = True
show_warning_types = True

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = os.environ.get("DOCS_CACHE", str(HERE / "_build" / "cache"))
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 300
nb_output_stderr = "remove"
nb_merge_streams = True

locale_dirs = [str(HERE / "locale"), str(HERE / "templates" / "locale")]  # pages, words of the theme
gettext_compact = False
gettext_location = False
gettext_additional_targets = ["literal-block"] if os.environ.get("DOCS_CODE_COMMENTS") else []

html_theme = "furo"
html_title = "jaxopt_ko"
html_math_renderer = "mathml"
html_static_path = [str(HERE / "static")]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_extra_path = [path for path in os.environ.get("DOCS_EXTRA", "").split(os.pathsep) if path]
templates_path = [str(HERE / "templates")]
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # it asks for pages, which a browser refuses from disk
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
html_context: dict[str, Any] = {"languages": {"en": "English", "ko": "한국어"}}
html_sidebars = {
    "**": [
        "sidebar/brand.html", "languages.html", "sidebar/search.html", "sidebar/scroll-start.html",
        "sidebar/navigation.html", "sidebar/scroll-end.html",
    ]
}  # fmt: skip
pygments_style = "friendly"
pygments_dark_style = "monokai"
add_module_names = False
python_display_short_literal_types = True
toc_object_entries_show_parents = "hide"
suppress_warnings = ["myst.header"] if os.environ.get("DOCS_GETTEXT") else []
