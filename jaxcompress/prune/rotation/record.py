"""What following a stream through a program finds out; local to one walk."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from jaxcompress.graph.internals import source_line
from jaxcompress.graph.interpret import Node
from jaxcompress.prune.rotation.states import Scaled

__all__ = ["Action", "Record", "Scale"]


class Action(NamedTuple):
    """How an equation is computed of what is turned.

    Attributes:
        kind: "sum" over the channels, where 1 turns to e = sqrt(C) (0, .., 0, 1); "add" of what is
            the same for all channels, c 1, which turns to c e; "matrix", the product of channels
            with their scale.
        operand: the position of what is summed, is the same for all channels, or scales.
        axis: of the channels.
    """

    kind: str
    operand: int
    axis: int


class Scale(NamedTuple):
    """What one leaf that scales channels is followed by.

    Attributes:
        scaled: with the shift that is added next.
        kernels: paths of the kernels that are given the result.
    """

    scaled: Scaled
    kernels: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Record:
    """What was found out.

    Attributes:
        matrices: the scales that are matrices in the turned network.
        is_training: whether entries may be dropped at random.
        actions: by the identity of the node.
        problems: why the stream cannot be turned, by line of code.
        scales: by path.
        failed: why a scale cannot go into kernels, by path.
        readers: the kernels that are given the stream.
    """

    matrices: Collection[str]
    is_training: bool = False
    actions: dict[int, Action] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    scales: dict[str, Scale] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    readers: set[str] = field(default_factory=set)

    def refuse(self, node: Node, reason: str) -> None:
        """Say why an equation cannot be computed of what is turned."""
        self.problems.setdefault(source_line(node.equation), reason)

    def fail(self, node: Node, scaled: Scaled | None, reason: str) -> None:
        """Say why a scale cannot go into the kernels behind it."""
        if scaled is not None:
            self.failed.setdefault(scaled.scale, f"{reason} at {source_line(node.equation)}")
