"""How far pages are translated: counted at each build, said in a banner, and held to where a page is listed as done.

docs/locale/done.txt lists the pages, or folders of pages, whose translation is whole. A message of theirs that is
missing or fuzzy is a warning, and so fails the build; other pages only say in a banner that a part is English still.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from babel.messages.pofile import read_po
from sphinx.util import logging

logger = logging.getLogger(__name__)
DOCS = Path(__file__).resolve().parents[1]
LOCALE = DOCS / "locale" / "ko" / "LC_MESSAGES"
CODE = re.compile(r"(\{\w+\})?`[^`]*`|\]\([^)]*\)|https?:\S+")
WORDS = re.compile("[A-Za-z가-힣]{2,}")


class Count(NamedTuple):
    """Messages of a page."""

    all: int
    missing: int  # not translated
    fuzzy: int  # translated from another text than that which stands there now

    @property
    def open(self) -> int:
        """How many are shown in English."""
        return self.missing + self.fuzzy


def has_words(message: str) -> bool:
    """Whether there is something to translate beside names, code and numbers."""
    return bool(WORDS.search(CODE.sub("", message)))


def counts(locale: Path = LOCALE, pots: Path | None = None) -> dict[str, Count]:
    """Every hand-written page, "start/optax", and its messages.

    locale: the folder LC_MESSAGES. pots: messages as they are now, from Sphinx's gettext builder: what stands there and
    not in the .po file counts as missing.
    """
    found = {}
    for page, now in sorted(_pages(locale, pots).items()):
        path = locale / f"{page}.po"
        then = _messages(path) if path.exists() else {}
        if pots is not None and now:
            then = {message: then.get(message, ("", False)) for message in now}
        own = [value for message, value in then.items() if has_words(message)]
        missing = sum(not text for text, _ in own)
        found[page] = Count(len(own), missing, sum(bool(text) and fuzzy for text, fuzzy in own))
    return found


def _pages(locale: Path, pots: Path | None) -> dict[str, set[str]]:
    """Pages that have a file of messages, and the messages as they are now, if that is known."""
    found = {path.relative_to(locale).with_suffix("").as_posix(): set[str]() for path in locale.rglob("*.po")}
    for path in pots.rglob("*.pot") if pots is not None else ():
        found[path.relative_to(pots).with_suffix("").as_posix()] = set(_messages(path))
    return found


def _messages(path: Path) -> dict[str, tuple[str, bool]]:
    """English -> (Korean, whether it is of another English)."""
    with path.open("rb") as file:
        return {str(one.id): (str(one.string), one.fuzzy) for one in read_po(file, locale="ko") if one.id}


def done(locale: Path = LOCALE) -> list[str]:
    """The pages and folders that are listed as translated."""
    path = locale.parents[1] / "done.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def is_done(page: str, listed: list[str]) -> bool:
    """Whether a page is listed, itself or by its folder."""
    return any(page == one or page.startswith(f"{one.rstrip('/')}/") for one in listed)


def status(locale: Path = LOCALE, pots: Path | None = None) -> str:
    """The contents of docs/locale/STATUS.md."""
    lines = [
        "# Translation", "",
        "Written by `python docs/build.py --update`; do not edit. Pages that are whole are listed in `done.txt`, and "
        "the build then fails when a message of theirs is missing or stale.", "",
        "| page | messages | missing | stale | listed as done |", "| --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    listed = done(locale)
    for page, count in counts(locale, pots).items():
        mark = "yes" if is_done(page, listed) else "no"
        lines.append(f"| {page} | {count.all} | {count.missing} | {count.fuzzy} | {mark} |")
    return "\n".join(lines) + "\n"


def started(app: Any) -> None:
    """Count, and warn of what a page that is listed as done leaves in English."""
    if app.config.language != "ko":
        return
    locale = Path(app.config.locale_dirs[0]) / "ko" / "LC_MESSAGES"
    pots = os.environ.get("DOCS_MESSAGES")
    app.jaxopt_counts = counts(locale, Path(pots) if pots else None)
    listed = done(locale)
    for page, count in app.jaxopt_counts.items():
        if is_done(page, listed) and count.open:
            what = f"{count.missing} missing and {count.fuzzy} stale messages"
            logger.warning("%s is listed as translated: %s. Run python docs/build.py --update", page, what, type="ko")
    for page in listed:
        if not any(is_done(one, [page]) for one in app.jaxopt_counts):
            logger.warning("%s is listed as translated, and has no messages", page, type="ko")


def context(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """What the banner says of this page, and where it is in the other language."""
    context["language_page"] = pagename
    context["page_language"] = app.config.language
    if app.config.language != "ko" or pagename not in app.jaxopt_counts:
        return
    count = app.jaxopt_counts[pagename]
    if count.open:
        kind = "stale" if count.fuzzy else "none" if count.open == count.all else "part"
        context["translation"] = {"kind": kind, "open": count.open, "all": count.all}


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("builder-inited", started)
    app.connect("html-page-context", context)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
