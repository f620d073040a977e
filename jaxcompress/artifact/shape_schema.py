"""What a shape in a file may be: no axis so long that reading about it costs memory."""

from __future__ import annotations

from math import prod
from typing import Any

__all__ = ["FREE_INDICES", "is_shape"]

FREE_INDICES = 2**22
"""Axes of this many indices together may be shrunk to anything; longer ones to 1 in 64."""


def is_shape(value: Any) -> bool:
    """Tell whether a value is a list of sizes, of an array that could exist."""
    is_list = isinstance(value, list) and len(value) <= 32 and all(map(_is_count, value))
    return is_list and prod(size for size in value if size) < 2**48


def _is_count(value: Any) -> bool:
    """Tell whether a value is a whole number from 0 on, no bool, that an axis can have as size."""
    return type(value) is int and 0 <= value < 2**31
