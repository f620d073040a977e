"""The reasons for which the code of `jaxcompress/graph` freezes an axis, read from its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["Reason", "matches", "reasons"]

ROOT = Path(__file__).parents[2]
PINNING = {"pin", "pin_all", "Pin"}


class Reason(NamedTuple):
    """Why an axis may be frozen.

    Attributes:
        text: as it is said, with `...` for what differs.
        what: the first sentence on the function that says it.
        file: from the root of the repository.
    """

    text: str
    what: str
    file: str


@cache
def reasons() -> list[Reason]:
    """Return every reason, by file.

    Example:
        >>> [reason.what for reason in reasons() if reason.text == "it is sorted"]
        ['Tie the operands; the sorted axis is pinned.']
    """
    listed: dict[tuple[str, str], Reason] = {}
    trees = {path: ast.parse(path.read_text()) for path in _files()}
    helpers = {
        node.name: _texts([n.value for n in ast.walk(node) if isinstance(n, ast.Return)])
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    for path, tree in trees.items():
        file = path.relative_to(ROOT).as_posix()
        for function in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]:
            what = (ast.get_docstring(function) or ast.get_docstring(tree) or "").split("\n")[0]
            for text in _said(function, {**_assigned(tree), **_assigned(function)}, helpers):
                listed.setdefault((file, text), Reason(text, what, file))
    return sorted(listed.values(), key=lambda reason: (reason.file, reason.text))


def _files() -> list[Path]:
    return sorted((ROOT / "jaxcompress/graph").rglob("*.py"))


def _assigned(tree: ast.AST) -> dict[str, list[ast.expr | None]]:
    """Return what is assigned to each name of a module or function, anywhere in it."""
    values: dict[str, list[ast.expr | None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values.setdefault(node.targets[0].id, []).append(node.value)
    return values


def _said(
    function: ast.FunctionDef,
    named: dict[str, list[ast.expr | None]],
    helpers: dict[str, list[str]],
) -> Iterator[str]:
    """Yield the texts with which a function pins: written there, by a name, or by a helper."""
    for call in [node for node in ast.walk(function) if isinstance(node, ast.Call)]:
        if _name(call.func) not in PINNING:
            continue
        values = [value for a in call.args for value in (_values(a, named) or [a])]
        yield from _texts(values)
        for value in values:
            if isinstance(value, ast.Call):
                yield from helpers.get(_name(value.func), [])


def _values(node: ast.expr, named: dict[str, list[ast.expr | None]]) -> list[ast.expr | None]:
    return named.get(node.id, []) if isinstance(node, ast.Name) else []


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _texts(nodes: list[ast.expr | None]) -> list[str]:
    texts = []
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else "..." for p in node.values]
            texts.append("".join(map(str, parts)))
    return texts


def matches(text: str, reason: str) -> bool:
    """Tell whether a reason, with `...` for what differs, is what a text says.

    Example:
        >>> matches("cumsum runs along it", "... runs along it")
        True
    """
    pattern = ".*".join(map(re.escape, reason.split("...")))
    return re.fullmatch(pattern, text) is not None
