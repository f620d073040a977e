"""What a shape in a file may be: no axis so long that reading about it costs memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from jaxcompress.annotations import Json

__all__ = [
    "FREE_INDICES",
    "Shapes",
    "is_shape",
    "rearranged_shape",
    "require",
    "shapes_before",
]

Shapes = dict[str, tuple[int, ...]]

FREE_INDICES = 2**22
"""Axes of this many indices together may be shrunk to anything; longer ones to 1 in 64."""


def is_shape(value: Any) -> bool:
    """Tell whether a value is a list of sizes, of an array that could exist."""
    is_list = isinstance(value, list) and len(value) <= 32 and all(map(_is_count, value))
    return is_list and prod(size for size in value if size) < 2**48


def _is_count(value: Any) -> bool:
    """Tell whether a value is a whole number from 0 on, no bool, that an axis can have as size."""
    return type(value) is int and 0 <= value < 2**31


def rearranged_shape(shape: list[int], steps: Any) -> tuple[list[int], list[int]]:
    """Return the scanned sizes and the shape of the kernel as it is contracted.

    Raises:
        ValueError, TypeError: if the steps are none.

    Example:
        >>> rearranged_shape([4, 2, 3], [["slice", []], ["transpose", [1, 0]]])
        ([4], [3, 2])
    """
    scanned: list[int] = []
    require(isinstance(steps, list), "steps")
    for name, numbers in steps:
        require(isinstance(numbers, list) and all(type(n) is int for n in numbers), "steps")
        if name == "slice":
            scanned, shape = [*scanned, shape[0]], shape[1:]
        elif name == "transpose":
            require(sorted(numbers) == list(range(len(shape))), "transpose")
            shape = [shape[i] for i in numbers]
        else:
            require(name == "reshape" and is_shape(numbers), "reshape")
            require(prod(numbers) == prod(shape), "reshape")
            shape = numbers
    return scanned, shape


def require(holds: bool, what: str) -> None:
    """Raise an error that names a part of a spec, unless something holds."""
    if not holds:
        raise ValueError(what)


def shapes_before(
    leaves: Mapping[str, Json],
    shapes: Shapes,
    problem_of: Callable[[Json], str | None],
    left_of: Callable[[Json], tuple[int, ...]],
    done: str,
) -> tuple[list[str], Shapes]:
    """Follow a change of whole leaves backwards: what is wrong with it, and the shapes before it.

    Args:
        leaves: what the spec says of each, its shape before among it.
        shapes: those that are stored.
        problem_of: what is wrong with one of the leaves, if anything.
        left_of: the shape that it has afterwards.
        done: what was done to it, for errors.
    """
    problems, before = [], dict(shapes)
    for path, leaf in leaves.items():
        problem = problem_of(leaf)
        if problem is not None:
            problems.append(f"{path}: {problem}")
            continue
        now, left = shapes.get(path, "nothing"), left_of(leaf)
        if now != left:
            problems.append(f"{path}: {done} to {left}, but {now} is stored")
        before[path] = tuple(leaf["shape"])
    if not problems and sum(sum(leaf["shape"]) for leaf in leaves.values()) > FREE_INDICES:
        problems.append(f"{list(leaves)[:8]}: axes of more than {FREE_INDICES} indices")
    return problems, before
