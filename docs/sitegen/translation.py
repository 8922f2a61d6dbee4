"""How far pages are translated: counted at each build, said in a banner, and held to where a page is listed as done.

docs/locale/done.txt lists the pages, or folders of pages, whose translation is whole. A message of theirs that is
missing or fuzzy is a warning, and so fails the build; other pages only say in a banner that a part is English still.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from babel.messages.pofile import read_po
from sphinx.util import logging

logger = logging.getLogger(__name__)
DOCS = Path(__file__).resolve().parents[1]
LOCALE = DOCS / "locale" / "ko" / "LC_MESSAGES"
PAGES = DOCS / "pages"
WORDS = re.compile("[A-Za-z가-힣]")


class Count(NamedTuple):
    """Messages of a page."""

    all: int
    missing: int  # not translated
    fuzzy: int  # translated from another text than that which stands there now

    @property
    def open(self) -> int:
        """How many are shown in English."""
        return self.missing + self.fuzzy


def counts(locale: Path = LOCALE) -> dict[str, Count]:
    """Every hand-written page, "start/optax", and its messages."""
    found = {}
    for path in sorted(locale.rglob("*.po")):
        with path.open("rb") as file:
            messages = [message for message in read_po(file, locale="ko") if message.id]
        messages = [message for message in messages if WORDS.search(str(message.id))]
        missing = sum(not message.string for message in messages)
        fuzzy = sum(bool(message.string) and message.fuzzy for message in messages)
        found[path.relative_to(locale).with_suffix("").as_posix()] = Count(len(messages), missing, fuzzy)
    return found


def done(path: Path = DOCS / "locale" / "done.txt") -> list[str]:
    """The pages and folders that are listed as translated."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def is_done(page: str, listed: list[str]) -> bool:
    """Whether a page is listed, itself or by its folder."""
    return any(page == one or page.startswith(f"{one.rstrip('/')}/") for one in listed)


def report(found: dict[str, Count], listed: list[str]) -> str:
    """A table of the pages, in Markdown."""
    lines = ["| page | messages | missing | stale | listed as done |", "| --- | --- | --- | --- | --- |"]
    for page, count in found.items():
        mark = "yes" if is_done(page, listed) else "no"
        lines.append(f"| {page} | {count.all} | {count.missing} | {count.fuzzy} | {mark} |")
    return "\n".join(lines) + "\n"


def status(locale: Path = LOCALE) -> str:
    """The contents of docs/locale/STATUS.md."""
    intro = (
        "# Translation\n\nWritten by `python docs/build.py --update`; do not edit. Pages that are whole are listed in "
        "`done.txt`, and their build then fails when a message is missing or stale.\n\n"
    )
    return intro + report(counts(locale), done())


def written_pages() -> list[str]:
    """The hand-written pages."""
    return sorted(path.relative_to(PAGES).with_suffix("").as_posix() for path in PAGES.rglob("*.md"))


def started(app: Any) -> None:
    """Count, and warn of what a page that is listed as done leaves in English."""
    if app.config.language != "ko":
        return
    found, listed = counts(), done()
    for page in written_pages():
        count = found.get(page)
        if is_done(page, listed) and (count is None or count.open):
            what = "no .po file" if count is None else f"{count.missing} missing, {count.fuzzy} stale messages"
            logger.warning("%s is listed as translated: %s. Run python docs/build.py --update", page, what, type="ko")
    app.jaxopt_counts = found


def context(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """What the banner says of this page, and where it is in the other language."""
    context["language_page"] = pagename
    context["page_language"] = app.config.language
    if app.config.language != "ko" or pagename not in written_pages():
        return
    count = app.jaxopt_counts.get(pagename)
    if count is None:
        context["translation"] = {"kind": "none", "open": 0, "all": 0}
    elif count.open:
        kind = "stale" if count.fuzzy else "none" if count.open == count.all else "part"
        context["translation"] = {"kind": kind, "open": count.open, "all": count.all}


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("builder-inited", started)
    app.connect("html-page-context", context)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
