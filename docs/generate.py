"""Write the pages of results, and the README's table of them, from the result files.

python -m docs.generate           # writes docs/results and the README's table
python -m docs.generate --check   # says which are not as the files say, and fails
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from docs.pages import (
    exports,
    headline,
    knowledge,
    pruning,
    pytorch,
    ranks,
    recipes,
    slimnets,
    tests,
    throughput,
    tpu,
    transformers,
)

__all__ = ["PAGES", "main", "outdated", "readme"]

ROOT = Path(__file__).parents[1]
PAGES: dict[str, Callable[[], str]] = {
    "recipes": recipes.page,
    "pruning": pruning.page,
    "ranks": ranks.page,
    "knowledge": knowledge.page,
    "slimnets": slimnets.page,
    "throughput": throughput.page,
    "pytorch": pytorch.page,
    "exports": exports.page,
    "tests": tests.page,
    "transformers": transformers.page,
    "tpu": tpu.page,
}
README: dict[str, Callable[[], str]] = {
    "headline": headline.table_of_figures,
    "coverage": tests.sentence,
}


def readme() -> str:
    """Return the README with its parts that hold figures made anew."""
    text = (ROOT / "README.md").read_text()
    for name, made in README.items():
        begin, end = f"<!-- {name}: python -m docs.generate -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, closing, after = rest.partition(end)
        if not closing:
            raise ValueError(f"README.md must hold the {name} between {begin!r} and {end!r}")
        text = f"{before}{begin}\n{made()}\n{end}{after}"
    return text


def texts() -> dict[Path, str]:
    """Return what every generated file should hold."""
    note = "<!-- Written by python -m docs.generate from the result files; edit docs/pages. -->\n\n"
    pages = {ROOT / f"docs/results/{name}.md": note + page() for name, page in PAGES.items()}
    return {**pages, ROOT / "README.md": readme()}


def outdated() -> list[str]:
    """Name the generated files that are not as the result files say."""
    return [
        path.relative_to(ROOT).as_posix()
        for path, text in texts().items()
        if not path.exists() or path.read_text() != text
    ]


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m docs.generate")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if outdated")
    if parser.parse_args().check:
        names = outdated()
        if names:
            raise SystemExit(f"not as the result files say: {', '.join(names)}; run docs.generate")
        return
    for path, text in texts().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
