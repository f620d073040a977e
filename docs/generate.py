"""Write the pages that are made of files and code, and the parts of others that hold figures.

python -m docs.generate           # writes docs/results, docs/api, docs/frozen.md and all parts
python -m docs.generate --check   # says which are not as files and code say, and fails

A part stands between `<!-- NAME: python -m docs.generate -->` and `<!-- end of NAME -->`, in the
README or on any page that is written by hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from docs.pages import (
    api,
    combined,
    exports,
    frozen,
    imagenet,
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
from docs.pages.parts import PARTS

__all__ = ["PAGES", "hand_written", "main", "outdated", "with_parts"]

ROOT = Path(__file__).parents[1]
NOTE = "<!-- Written by python -m docs.generate from the {source}; edit docs/pages. -->\n\n"
RESULTS: dict[str, Callable[[], str]] = {
    "recipes": recipes.page,
    "pruning": pruning.page,
    "ranks": ranks.page,
    "knowledge": knowledge.page,
    "slimnets": slimnets.page,
    "combined": combined.page,
    "throughput": throughput.page,
    "pytorch": pytorch.page,
    "exports": exports.page,
    "tests": tests.page,
    "transformers": transformers.page,
    "tpu": tpu.page,
    "imagenet": imagenet.page,
}
PAGES: dict[str, Callable[[], str]] = {
    **{f"results/{name}": page for name, page in RESULTS.items()},
    "frozen": frozen.page,
    "api/index": api.index,
    **{f"api/{name}": partial(api.page, name) for name in api.PACKAGES},
}


def hand_written() -> list[Path]:
    """Return the README and the pages that are not made as a whole."""
    made = {ROOT / f"docs/{name}.md" for name in PAGES}
    return [ROOT / "README.md", *sorted(set((ROOT / "docs").rglob("*.md")) - made)]


def with_parts(text: str, place: str) -> str:
    """Return a page with its parts that hold figures made anew.

    Raises:
        ValueError: if a part begins and does not end.
    """
    for name, made in PARTS.items():
        begin, end = f"<!-- {name}: python -m docs.generate -->", f"<!-- end of {name} -->"
        before, opening, rest = text.partition(begin)
        if not opening:
            continue
        _, closing, after = rest.partition(end)
        if not closing:
            raise ValueError(f"{place} must hold the {name} between {begin!r} and {end!r}")
        text = f"{before}{begin}\n{made()}\n{end}{after}"
    return text


def texts() -> dict[Path, str]:
    """Return what every page should hold."""
    pages = {
        ROOT / f"docs/{name}.md": NOTE.format(
            source="result files" if name.startswith("results/") else "code"
        )
        + page()
        for name, page in PAGES.items()
    }
    written = {path: path.read_text() for path in hand_written()}
    return pages | {
        path: with_parts(text, path.relative_to(ROOT).as_posix()) for path, text in written.items()
    }


def outdated() -> list[str]:
    """Name the pages that are not as the files and the code say."""
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
