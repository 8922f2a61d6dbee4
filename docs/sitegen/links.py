"""Names of the house in MyST pages: `{jo}`adam`` is a link to jaxopt_ko.adam."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxRole

from sitegen.names import targets


class House(SphinxRole):
    """A public name as a user writes it: {jo}`minimize`, {jo}`losses.huber_loss`."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """A reference, which Sphinx resolves or warns of."""
        called = self.text.partition("(")[0]
        where = targets().get(called, f"jaxopt_ko.{called}")
        shown = self.text if self.text.startswith("jo.") else f"jo.{self.text}"
        xref = pending_xref(
            "", nodes.literal(shown, shown, classes=["xref", "py"]),
            refdomain="py", reftype="obj", reftarget=where, refwarn=True, refdoc=self.env.docname,
        )  # fmt: skip
        return [xref], []


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx."""
    app.add_role("jo", House())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
