"""What widths a selection may give each group: steps, a least and a largest width."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from jaxcompress.arguments import integer
from jaxcompress.graph import Cost

__all__ = ["Limits", "group_limits", "steps_problem"]


class Limits(NamedTuple):
    """The widths that one group may have, in channels.

    Attributes:
        step: widths are multiples of this, or full.
        least: no width is smaller.
        most: no width is larger.
    """

    step: int
    least: int
    most: int


def group_limits(
    cost: Cost,
    names: Collection[str],
    multiple_of: int | Mapping[str, int],
    min_width: int,
    protected: Collection[str],
) -> dict[str, Limits]:
    """Return the limits of the named groups."""
    limits = {}
    for name, width, fewest in zip(cost.names, cost.dense.tolist(), cost.least, strict=True):
        if name not in names:
            continue
        step = multiple_of.get(name, 1) if isinstance(multiple_of, Mapping) else multiple_of
        least = width if name in protected else min(width, max(min_width, int(fewest)))
        limits[name] = Limits(int(step), least, width)
    return limits


def steps_problem(multiple_of: int | Mapping[str, int]) -> str | None:
    """Say why steps are no whole numbers; None where they are.

    Example:
        >>> steps_problem(8), steps_problem({"a[1]": 0})
        (None, 'by group a whole number of at least 1, but is 0 for a[1]')
    """
    if not isinstance(multiple_of, Mapping):
        return integer(multiple_of)
    wrong = [f"{step!r} for {name}" for name, step in multiple_of.items() if integer(step)]
    if not wrong:
        return None
    return f"by group a whole number of at least 1, but is {', '.join(wrong)}"
