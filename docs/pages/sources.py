"""Which paper each public function comes from, as its docstring says; and the result files."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

from docs.markdown import table
from docs.pages.api import PACKAGES

__all__ = ["result_files", "source_of", "table_of_sources"]

ROOT = Path(__file__).parents[2]


def result_files() -> list[str]:
    """Return the paths of all result files, from the root of the repository."""
    folders = ("benchmarks/results", "experiments/results")
    return [
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in sorted((ROOT / folder).glob("*.json"))
    ]


def source_of(docstring: str) -> str:
    """Return what a docstring says below `Source:`, as one line; nothing where it says nothing.

    Example:
        >>> source_of("Sum.\\n\\nSource:\\n    A and B 2020,\\n    section 3.\\n\\nExample:")
        'A and B 2020, section 3.'
    """
    match = re.search(r"^Source:\s*(.*?)(?:\n\s*\n|\Z)", docstring, re.DOTALL | re.MULTILINE)
    return "" if match is None else " ".join(match[1].split()).replace("|", "\\|")


def table_of_sources() -> str:
    """Return the table of public names with a source, each where it is found first."""
    rows: dict[int, list[str]] = {}
    for package, path in PACKAGES.items():
        module = importlib.import_module(path)
        for name in module.__all__:
            value = getattr(module, name)
            text = source_of(inspect.getdoc(value) or "") if callable(value) else ""
            if text:
                rows.setdefault(id(value), [f"[`{package}.{name}`](api/{package}.md)", text])
    return table(["function", "source, and where ours differs"], rows.values())
