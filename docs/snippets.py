"""Run the Python of the pages, and write below each block what it prints.

python -m docs.snippets           # runs start.md and the guides, writes their outputs
python -m docs.snippets pruning   # only what the paths of pages contain

A block of text right below a block of Python holds what that prints. The blocks of `start.md` run
alone, each as a file of its own; those of a guide one after the other, from where the block below
"Plain JAX" ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["GUIDES", "START", "Snippet", "main", "missing", "run", "snippets"]

FOLDER = Path(__file__).parent
START, PLAIN = FOLDER / "start.md", "Plain JAX"
GUIDES = tuple(sorted((FOLDER / "guides").glob("*.md")))
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)


class Snippet(NamedTuple):
    """A block of Python on a page.

    Attributes:
        heading: the last one above it.
        code: what runs.
        output: what the page says that it prints; None where it says nothing.
        fence: where the block ends in the text of the page.
        end: where its output ends.
    """

    heading: str
    code: str
    output: str | None
    fence: int
    end: int


def snippets(text: str) -> list[Snippet]:
    """Return the blocks of Python of a page, in order.

    Example:
        >>> page = "## Sum\\n\\n```python\\nprint(1 + 1)\\n```\\n\\n```text\\n2\\n```\\n"
        >>> [(snippet.heading, snippet.output) for snippet in snippets(page)]
        [('Sum', '2\\n')]
    """
    blocks = []
    for match in BLOCK.finditer(text):
        headings = re.findall(r"^#+ (.*)$", text[: match.start()], re.MULTILINE)
        heading = headings[-1] if headings else ""
        blocks.append(
            Snippet(heading, match["code"], match["output"], match.end("code") + 4, match.end())
        )
    return blocks


def missing(snippet: Snippet) -> list[str]:
    """Name the packages that a block imports and that are not installed.

    Example:
        >>> missing(Snippet("", "import json\\nimport no_such_package\\n", None, 0, 0))
        ['no_such_package']
    """
    names = re.findall(r"^(?:import|from) (\w+)", snippet.code, re.MULTILINE)
    return [name for name in names if importlib.util.find_spec(name) is None]


def run(snippet: Snippet, known: dict[str, Any]) -> str:
    """Run a block among the names that are known, in the working directory; return its prints."""
    printed = io.StringIO()
    known.setdefault("__name__", "__main__")
    with contextlib.redirect_stdout(printed):
        exec(compile(snippet.code, "network.py", "exec"), known)
    return printed.getvalue()


def written(text: str, known: dict[str, Any], alone: bool) -> str:
    """Return a page with the outputs that its blocks print now; what cannot run stays."""
    parts, begin, start = [], 0, known
    for snippet in snippets(text):
        known = dict(start) if alone else known
        printed = (snippet.output or "") if missing(snippet) else run(snippet, known)
        parts.append(text[begin : snippet.fence])
        parts.append(f"\n```text\n{printed}```\n" if printed else "")
        begin = snippet.end
    return "".join([*parts, text[begin:]])


def plain() -> dict[str, Any]:
    """Return the names that the block of a plain function leaves."""
    known: dict[str, Any] = {}
    for snippet in snippets(START.read_text()):
        if snippet.heading == PLAIN:
            run(snippet, known)
    return known


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Stay in an empty folder for a while: blocks write files."""
    with tempfile.TemporaryDirectory() as folder:
        before = Path.cwd()
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def main(wanted: str = "") -> None:
    """Write what the blocks of pages print."""
    with elsewhere():
        if wanted in START.name:
            START.write_text(written(START.read_text(), {}, alone=True))
        known = plain()
        for page in GUIDES:
            if wanted in page.name:
                page.write_text(written(page.read_text(), dict(known), alone=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
