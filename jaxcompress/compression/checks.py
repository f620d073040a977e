"""Checks of what callers say about groups and leaves, all offenders named at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jaxcompress.annotations import Array, Json
from jaxcompress.graph import Graph

__all__ = ["check_groups", "check_keep", "check_shapes", "check_widths"]


def check_groups(graph: Graph, named: Mapping[str, Json], what: str) -> None:
    """Raise unless every name is one of the graph's groups.

    Raises:
        ValueError: if a group is unknown; the nearest ones are listed.
    """
    unknown = [name for name in named if name not in graph.groups]
    if unknown:
        known = list(graph.groups)
        listed = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
        raise ValueError(
            f"{what} names groups of the graph, but {unknown} are none of them; its groups are "
            f"{listed or 'none at all: print(graph) tells why'}"
        )


def check_widths(graph: Graph, named: Mapping[str, Json], what: str, per_example: bool) -> None:
    """Raise unless every array has its group's width, after an example axis if that may be.

    Raises:
        ValueError: if a group is unknown or a width wrong.
    """
    check_groups(graph, named, what)
    ranks = (1, 2) if per_example else (1,)
    wrong = [
        f"{name}: {np.shape(value)} instead of ({graph.groups[name].width},)"
        for name, value in named.items()
        if len(np.shape(value)) not in ranks or np.shape(value)[-1] != graph.groups[name].width
    ]
    if wrong:
        extra = " (or [examples, width])" if per_example else ""
        raise ValueError(
            f"{what} holds one entry per channel{extra}, but {'; '.join(wrong)}; "
            "widths are graph.groups[name].width"
        )


def check_keep(graph: Graph, keep: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Return a keep as NumPy booleans.

    Raises:
        TypeError: if an entry is traced or not boolean.
        ValueError: if a group is unknown, a width wrong, or nothing of a group is kept.
    """
    traced = [name for name, value in keep.items() if isinstance(value, jax.core.Tracer)]
    if traced:
        raise TypeError(
            f"a keep decides shapes, so it must be known on the host, but {traced} are traced; "
            "inside jit use gates (jaxcompress.gated) and shrink once at the end"
        )
    check_widths(graph, keep, "a keep", per_example=False)
    arrays = {name: np.asarray(value) for name, value in keep.items()}
    wrong = [f"{n}: {a.dtype}" for n, a in arrays.items() if a.dtype != bool]
    if wrong:
        raise TypeError(f"a keep is boolean, True = kept, but {'; '.join(wrong)}; compare first")
    empty = [n for n, array in arrays.items() if not array.any() and n not in graph.optional]
    if empty:
        raise ValueError(
            f"every group keeps at least one channel, but {empty} keep none; only those in "
            "graph.optional may go as a whole"
        )
    return arrays


def check_shapes(
    leaves: Mapping[str, Array],
    expected: Mapping[str, Sequence[int]],
    what: str,
    change: str,
    remedy: str,
) -> None:
    """Raise unless the leaves of `expected` are there, of these shapes.

    Args:
        leaves: by path.
        expected: shapes by path.
        what: what the leaves are, for the message.
        change: what they were made for.
        remedy: what to pass.

    Raises:
        ValueError: naming every leaf that is missing or of another shape.
    """
    wrong = [
        f"{path}: {'missing' if path not in leaves else np.shape(leaves[path])}, expected {shape}"
        for path, shape in expected.items()
        if path not in leaves or tuple(np.shape(leaves[path])) != tuple(shape)
    ]
    if wrong:
        raise ValueError(
            f"{what} must have the leaves and shapes that {change} was made for, but "
            f"{'; '.join(wrong)}; {remedy}"
        )
