"""The habits of the code that can be counted: names, lengths of files and functions, types."""

from __future__ import annotations

import ast
import io
import subprocess
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Names that say nothing of what is held.
EMPTY_NAMES = {"own", "found", "tmp", "foo", "obj"}
LONGEST_FILE, LONGEST_FUNCTION = 250, 40
# Of the library; beyond PyTree, Array, Batch, Function and Json of `jaxcompress.annotations`.
MOST_ANY = 17


def sources(*folders: str) -> dict[str, str]:
    """Return the text of every Python file below the folders, by its path from the root."""
    files = sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))
    return {file.relative_to(ROOT).as_posix(): file.read_text() for file in files}


def empty_names(text: str) -> list[str]:
    """Return the lines on which a name says nothing."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [
        f"{token.start[0]}: {token.string}"
        for token in tokens
        if token.type == tokenize.NAME and token.string in EMPTY_NAMES
    ]


def long_functions(text: str) -> list[str]:
    """Return the functions whose code is too long, without docstring and functions inside."""
    long = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            inner = [part for part in body if isinstance(part, ast.FunctionDef)]
            lines = _lines(body) - sum(_lines([part]) for part in inner)
            if lines > LONGEST_FUNCTION:
                long.append(f"{node.lineno}: {node.name} has {lines} lines")
    return long


def _lines(statements: list[ast.stmt]) -> int:
    if not statements:
        return 0
    first, last = statements[0].lineno, statements[-1].end_lineno
    assert last is not None
    return last - first + 1


@pytest.mark.parametrize("folder", ["jaxcompress", "experiments", "benchmarks", "docs", "tests"])
def test_names_say_what_is_held(folder: str) -> None:
    wrong = {f: lines for f, text in sources(folder).items() if (lines := empty_names(text))}
    assert not wrong, wrong


@pytest.mark.parametrize("folder", ["jaxcompress", "experiments", "benchmarks", "docs", "tests"])
def test_files_and_functions_are_short(folder: str) -> None:
    texts = sources(folder)
    files = {f: n for f, text in texts.items() if (n := len(text.splitlines())) > LONGEST_FILE}
    assert not files, files
    functions = {f: long for f, text in texts.items() if (long := long_functions(text))}
    assert not functions, functions


def test_the_library_says_what_its_arguments_are() -> None:
    texts = sources("jaxcompress").values()
    lines = sum(len(text.splitlines()) for text in texts)
    names = [
        token.string
        for text in texts
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.NAME
    ]
    assert 1000 * names.count("Any") / lines <= MOST_ANY


def test_an_empty_name_and_a_long_function_are_noticed() -> None:
    assert empty_names("own = 1\nall_found = own") == ["1: own", "2: own"]
    assert long_functions("def f():\n" + "    x = 1\n" * 41) == ["1: f has 41 lines"]


def test_every_file_is_read() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "jaxcompress/*.py"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("the tree is no clone")
    assert set(listed.stdout.split()) <= set(sources("jaxcompress"))
