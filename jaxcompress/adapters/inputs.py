"""How training functions take their inputs: one, or a tuple of several."""

from __future__ import annotations

from typing import Any

from jaxcompress.annotations import PyTree

__all__ = ["unpacked"]


def unpacked(inputs: PyTree) -> tuple[Any, ...]:
    """Return what a model is called with: the entries of a tuple, or the one input."""
    return inputs if isinstance(inputs, tuple) else (inputs,)
