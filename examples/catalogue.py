"""The catalogue of methods as a table, one of them as a page, or its copies in `docs` written anew.

python examples/catalogue.py [ko] [--columns name equation paper] [--page adam]
python examples/catalogue.py --write docs/catalogue.md docs/catalogue.ko.md
"""

import argparse
import pathlib

from jaxopt_ko import catalog

BEGIN, END = "<!-- catalogue -->", "<!-- /catalogue -->"


def renewed(text, language):
    """A document with what is between the two markers as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise SystemExit(f"{BEGIN} and {END} are not both there")
    return f"{before}{BEGIN}\n{catalog.markdown(language)}\n{END}{after}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("language", nargs="?", choices=catalog.LANGUAGES, default="en")
    parser.add_argument("--columns", nargs="+", choices=list(catalog.TITLES), default=catalog.COLUMNS)
    parser.add_argument("--page", choices=list(catalog.BY_NAME), metavar="NAME")
    parser.add_argument("--write", nargs="+", type=pathlib.Path, metavar="FILE", help="the Korean one ends in .ko.md")
    args = parser.parse_args()
    if args.write:
        for path in args.write:
            language = "ko" if path.suffixes == [".ko", ".md"] else "en"
            path.write_text(renewed(path.read_text(encoding="utf-8"), language), encoding="utf-8")
    else:
        print(catalog.page(args.page, args.language) if args.page else catalog.catalog(args.language, args.columns))


if __name__ == "__main__":
    main()
