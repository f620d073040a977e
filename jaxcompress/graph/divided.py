"""The sums over a group's channels that a program divides by a number: which of them are means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxcompress.graph.internals import source_line
from jaxcompress.graph.interpret import Body, Node
from jaxcompress.graph.means import summed_axes

__all__ = ["DividedSum", "divided_sums", "show_divided"]


class DividedSum(NamedTuple):
    """One sum over a group's channels, and what the program divides it by.

    Attributes:
        group: whose channels are summed.
        source: the line of code of the sum.
        by: the number.
        ddof: the k of a mean, which divides by the number of summands less k. None of what is no
            mean: that number stays, whatever is left of the group.
    """

    group: str
    source: str
    by: float
    ddof: int | None


def divided_sums(body: Body, names: Sequence[str], group_of: np.ndarray) -> tuple[DividedSum, ...]:
    """Return the sums of a labelled program that divide by numbers and lie on groups.

    Args:
        body: the program.
        names: of the groups.
        group_of: `int[labels]`, the position of each label's group, -1 for none.
    """
    made = []
    for node in _nodes(body):
        if node.divided is not None:
            labels = [a.labels for axes in summed_axes(node) for a in axes if a.labels is not None]
            numbers = np.unique(group_of[np.concatenate(labels)]) if labels else ()
            line = source_line(node.equation)
            made += [DividedSum(names[n], line, *node.divided) for n in numbers if n >= 0]
    return tuple(made)


def _nodes(body: Body) -> Iterator[Node]:
    for node in body.nodes:
        yield node
        for inner in node.bodies:
            yield from _nodes(inner)


def show_divided(sums: Sequence[DividedSum], means: str) -> str:
    """Return words on what sums over groups are divided by; empty where there are none.

    Args:
        sums: all of them.
        means: as in `trace`.

    Example:
        >>> line = "model.py:7 (norm)"
        >>> sums = [DividedSum("a[1]", line, 8.0, 0), DividedSum("a[1]", line, 4.0, None)]
        >>> print(show_divided(sums, "kept"))
        <BLANKLINE>
        means over channels, which divide by what is left of them (means="kept"):
          a[1]: model.py:7 (norm)
        other sums over channels, divided by a number that stays as it is:
          a[1]: by 4 at model.py:7 (norm)
    """
    left = "what is left of them" if means == "kept" else "all of them, gone or not"
    heads = {
        True: f'means over channels, which divide by {left} (means="{means}"):',
        False: "other sums over channels, divided by a number that stays as it is:",
    }
    lines = []
    for is_mean, head in heads.items():
        words: dict[str, list[str]] = {}
        for one in sums:
            if (one.ddof is not None) == is_mean:
                place = one.source if is_mean else f"by {one.by:.6g} at {one.source}"
                place += f", less {one.ddof}" if one.ddof else ""
                words.setdefault(one.group, []).append(place)
        lines += [head, *_folded(words)] if words else []
    return "\n".join(["", *lines]) if lines else ""


def _folded(words: dict[str, list[str]]) -> list[str]:
    """Return a line for each of the first groups."""
    lines = []
    for group, places in list(words.items())[:8]:
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        lines.append(f"  {group}: {places[0]}{more}")
    return [*lines, *([f"  and {len(words) - 8} more groups"] if len(words) > 8 else [])]
