"""A catalogue: one row per method, in English and in Korean, with its ancestors and the measured bytes of its state."""

import sys

from jaxopt_ko.catalog.entry import LANGUAGES, METHODS, SIZES, Memory, Row, Text, state_bytes
from jaxopt_ko.catalog.rows import BY_NAME, FAMILIES, NEEDS, ROWS
from jaxopt_ko.catalog.view import (
    COLUMNS,
    KEY,
    SHORT,
    TITLES,
    Node,
    Tree,
    catalog,
    family_tree,
    markdown,
    mermaid,
    page,
)
from jaxopt_ko.core.naming import answers_at
from jaxopt_ko.core.tables import Table as Table
from jaxopt_ko.core.tables import width as width

__all__ = [
    "BY_NAME", "COLUMNS", "FAMILIES", "KEY", "LANGUAGES", "METHODS", "NEEDS", "ROWS", "SHORT", "SIZES", "TITLES",
    "Memory", "Node", "Row", "Text", "Tree",
    "catalog", "family_tree", "markdown", "mermaid", "page", "state_bytes",
]  # fmt: skip

answers_at("jaxopt_ko", {"catalog": sys.modules[__name__]})
