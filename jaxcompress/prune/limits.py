"""What widths a selection may give each group: steps, a least and a largest width."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from jaxcompress.graph import Cost
from jaxcompress.prune.shares import check_patterns, shares_of
from jaxcompress.prune.time_steps import timed_ends

__all__ = ["Limits", "group_limits"]

ROUNDING = 1e-9


class Limits(NamedTuple):
    """The widths that one group may have, in channels.

    Attributes:
        ends: the widths, rising: multiples of a step, or full, up to the largest.
        least: no width is smaller.
    """

    ends: tuple[int, ...]
    least: int


def group_limits(
    cost: Cost,
    names: Collection[str],
    *,
    multiple_of: int | Mapping[str, int],
    min_width: int,
    protected: Collection[str],
    min_share: float | Mapping[str, float] = 0.0,
    max_share: float | Mapping[str, float] = 1.0,
    kinds: Collection[str] = (),
) -> dict[str, Limits]:
    """Return the limits of the named groups.

    Where `kinds`, what a budget bounds, holds latency, they are the widths at which time changes.

    Raises:
        ValueError: if a pattern fits no named group, or no width of a group is allowed; all are
            named.
    """
    check_patterns(names, min_share=min_share, max_share=max_share)
    limits, wrong = {}, []
    for name, width, fewest in zip(cost.names, cost.dense.tolist(), cost.least, strict=True):
        if name not in names:
            continue
        step = int(multiple_of.get(name, 1) if isinstance(multiple_of, Mapping) else multiple_of)
        # What rounding puts above a whole number of channels is none.
        shares = [math.ceil(share * width - ROUNDING) for share in shares_of(min_share, name)]
        least = min(width, max(min_width, int(fewest), *shares))
        largest = min([1.0, *shares_of(max_share, name)])
        most = math.floor(largest * width + ROUNDING)
        if name in protected:
            least = most = width
        most = width if most >= width else most // step * step
        smallest = min(-(-least // step) * step, width)
        if smallest > most:
            wrong.append(
                f"{name}: at least {smallest} and at most {most} of {width} channels, in steps of "
                f"{step}"
            )
        ends = tuple(min(start + step, width) for start in range(0, most, step))
        # Beside another kind, widths between those where time changes are worth having.
        timed = set(kinds) == {"latency"} and name not in protected
        limits[name] = Limits(timed_ends(cost, name, ends) if timed else ends, least)
    if wrong:
        raise ValueError(
            f"every group needs a width between its least and its most, but {'; '.join(wrong)}; "
            "lower min_share or min_width, raise max_share, or take a smaller multiple_of"
        )
    return limits
