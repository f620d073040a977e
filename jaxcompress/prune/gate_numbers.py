"""The number of each gate, and which indices of leaves and carried inputs it stands at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxcompress.graph import Graph
from jaxcompress.graph.program import Program, owner_name

__all__ = ["FIRST", "carried_inputs", "gate_names", "gate_numbers"]

FIRST = 2
"""Leaf indices without a gate hold 1; those of gate number n hold FIRST + n."""


def carried_inputs(graph: Graph, program: Program) -> set[str]:
    """Return the inputs that an output replaces, where this function has them at their places."""
    shapes = {path: a.shape for path, a in zip(program.input_paths, program.inputs, strict=True)}
    return {
        entry.path
        for entry in graph.carried
        if len(shapes.get(entry.path, ())) == len(entry.shape)
        and shapes[entry.path][entry.axis] == entry.shape[entry.axis]
    }


def gate_names(graph: Graph, names: Sequence[str]) -> list[str]:
    """Name the gates of groups in the order of their numbers."""
    return [f"{name} channel {i}" for name in names for i in range(graph.groups[name].width)]


def gate_numbers(graph: Graph, names: Sequence[str]) -> dict[tuple[str, int], np.ndarray]:
    """Give every gate a number, and every leaf index the number of its gate."""
    known: dict[tuple[str, int], np.ndarray] = {}
    start = FIRST
    for name in names:
        group = graph.groups[name]
        for member in group.members:
            size = graph.leaves[member.path].shape[member.axis]
            values = known.setdefault((member.path, member.axis), np.ones(size, np.int32))
            values[member.indices] = start + np.arange(group.width)[:, None]
        for entry in graph.carried:
            if entry.group == name:
                place, inside = (owner_name(entry.path), entry.axis), entry.channels >= 0
                values = known.setdefault(place, np.ones(len(inside), np.int32))
                values[inside] = start + entry.channels[inside]
        start += group.width
    return known
