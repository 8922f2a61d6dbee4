"""Tables of recorded runs in READMEs, each between two comments.

Not a script: benchmarks that have `--write` use it.
"""


def renewed(text, mark, table):
    """A README with another table between `<!-- mark -->` and `<!-- /mark -->`."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{begin} and {end} are not both there")
    return f"{before}{begin}\n{table}\n{end}{after}"


def written(paths, mark, markdown):
    """The same in files; markdown(language) is the table."""
    for path in paths:
        text = path.read_text(encoding="utf-8")
        path.write_text(renewed(text, mark, markdown("ko" if ".ko" in path.name else "en")), encoding="utf-8")
