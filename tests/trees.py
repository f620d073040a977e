"""Structures of pytrees, to be compared."""

from __future__ import annotations

from typing import Any

import jax

from jaxcompress.annotations import PyTree


def structure_of(tree: PyTree) -> Any:
    """Return the structure of the tree, whose type does not say that it can be compared."""
    return jax.tree.structure(tree)
