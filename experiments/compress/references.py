"""Functions of one's own, by `module:function` or `file.py:function`, and their errors."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.compress.nearest import nearest

__all__ = ["call", "failure", "function_of"]


def function_of(reference: str, setting: str) -> Callable[[], Any]:
    """Import the function that a setting names.

    Args:
        reference: `module:function`, from the folder at hand, or `path/to/file.py:function`.
        setting: its name, for errors.

    Raises:
        ValueError: if there is no such module, file or function, with the nearest name, or if the
            module fails while it is imported.

    Example:
        >>> function_of("math:squirt", "model")
        Traceback (most recent call last):
            ...
        ValueError: model: math has no function 'squirt'; did you mean 'sqrt'?
    """
    place, _, name = reference.rpartition(":")
    module = _of_file(Path(place), setting) if place.endswith(".py") else _of_name(place, setting)
    function = getattr(module, name, None)
    if not callable(function):
        names = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise ValueError(f"{setting}: {place} has no function {name!r}; {nearest(name, names)}")
    return function  # type: ignore[no-any-return]


def call(function: Callable[[], Any], reference: str, setting: str) -> Any:
    """Call a function of one's own.

    Raises:
        ValueError: if it fails: with what, and where.
    """
    try:
        return function()
    except Exception as error:
        raise failure(error, f"{setting}: {reference} is called without arguments") from error


def failure(error: BaseException, rule: str) -> ValueError:
    """Return the error that says in one line what failed and where, of a traceback that follows.

    Example:
        >>> str(failure(KeyError("labels"), "data: my:batches yields batches"))
        "data: my:batches yields batches, but fails with KeyError: 'labels'"
    """
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if "site-packages" not in frame.filename]
    last = (outside or list(frames))[-1:]
    place = "".join(f" at {frame.filename}:{frame.lineno}, `{frame.line}`" for frame in last)
    what = traceback.format_exception_only(error)[-1].strip()
    return ValueError(f"{rule}, but fails with {what}{place}")


def _of_file(file: Path, setting: str) -> ModuleType:
    if not file.is_file():
        there = [str(other) for other in sorted(file.parent.glob("*.py"))]
        remedy = nearest(str(file), there, "" if there else f"{file.parent} holds no Python")
        raise ValueError(f"{setting}: there is no file {file}; {remedy}")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _look_in(file.resolve().parent)  # for what stands beside it
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[file.stem]
        raise failure(error, f"{setting}: {file} is imported") from error
    return module


def _of_name(name: str, setting: str) -> ModuleType:
    _look_in(Path.cwd())
    try:
        return importlib.import_module(name)
    except Exception as error:
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing is None or not f"{name}.".startswith(f"{missing}."):
            raise failure(error, f"{setting}: {name} is imported") from error
        there = [file.stem for file in sorted(Path.cwd().glob("*.py"))]
        remedy = nearest(name, there, f"{'; or ' if there else ''}name it by its file, {name}.py")
        raise ValueError(f"{setting}: there is no module {name!r} here; {remedy}") from error


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
