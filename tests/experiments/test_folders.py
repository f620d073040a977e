"""The house: experiments stand beside each other, small, and share what lies in `common`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES, BODY = 250, 40


def files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the full names that a module imports, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offences(file: str, tree: ast.Module) -> Iterator[str]:
    """Say what a module of one experiment imports from another."""
    house, folder = file.split("/")[:2]
    for name in imported(tree):
        parts = name.split(".")
        if parts[0] == "benchmarks" != house:
            yield f"{file}: imports {name}; move what is shared to experiments/common"
        elif parts[0] == "experiments" and parts[1] not in ("common", folder):
            yield f"{file}: imports {name}; move what is shared to experiments/common"


def test_experiments_do_not_import_each_other() -> None:
    problems = []
    for file in files("experiments", "benchmarks"):
        name = file.relative_to(ROOT).as_posix()
        problems += list(offences(name, ast.parse(file.read_text())))
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("file", "source", "count"),
    [
        ("experiments/ranks/run.py", "from experiments.prune import run", 1),
        ("experiments/common/data.py", "from experiments.prune.run import main", 1),
        ("experiments/ranks/run.py", "def f():\n    import benchmarks.candidates", 1),
        ("benchmarks/importance/task.py", "from experiments.prune.run import main", 1),
        ("experiments/ranks/run.py", "from experiments.common import data", 0),
        ("experiments/ranks/run.py", "from experiments.ranks import study", 0),
    ],
)
def test_a_wrong_import_is_found(file: str, source: str, count: int) -> None:
    assert len(list(offences(file, ast.parse(source)))) == count


def body_lines(function: ast.FunctionDef) -> int:
    """Count the lines of a function without its head and its docstring."""
    start = function.body[1 if ast.get_docstring(function) else 0 :]
    return (function.end_lineno or 0) - start[0].lineno + 1 if start else 0


def test_files_and_functions_are_short() -> None:
    long = []
    for file in files("experiments", "benchmarks"):
        text = file.read_text()
        if text.count("\n") > LINES:
            long.append(f"{file.relative_to(ROOT)}: {text.count(chr(10))} lines")
        long += [
            f"{file.relative_to(ROOT)}:{node.lineno}: {node.name} has {body_lines(node)} lines"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef) and body_lines(node) > BODY
        ]
    assert not long, "\n".join(long)
