"""What widths a selection may give each group: steps, a least and a largest width."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from jaxcompress.graph import Cost
from jaxcompress.prune.shares import check_patterns, shares_of

__all__ = ["Limits", "group_limits"]

ROUNDING = 1e-9


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
    *,
    multiple_of: int | Mapping[str, int],
    min_width: int,
    protected: Collection[str],
    min_share: float | Mapping[str, float] = 0.0,
    max_share: float | Mapping[str, float] = 1.0,
) -> dict[str, Limits]:
    """Return the limits of the named groups.

    Raises:
        ValueError: if a pattern fits no named group, or no width of a group is allowed; all are
            named.
    """
    check_patterns(names, min_share=min_share, max_share=max_share)
    limits = {}
    for name, width, fewest in zip(cost.names, cost.dense.tolist(), cost.least, strict=True):
        if name not in names:
            continue
        step = int(multiple_of.get(name, 1) if isinstance(multiple_of, Mapping) else multiple_of)
        if name in protected:
            limits[name] = Limits(step, width, width)
            continue
        # What rounding puts above a whole number of channels is none.
        shares = [math.ceil(share * width - ROUNDING) for share in shares_of(min_share, name)]
        least = min(width, max(min_width, int(fewest), *shares))
        largest = min([1.0, *shares_of(max_share, name)])
        most = math.floor(largest * width + ROUNDING)
        limits[name] = Limits(step, least, width if most >= width else most // step * step)
    _check_widths(cost, limits)
    return limits


def _check_widths(cost: Cost, limits: Mapping[str, Limits]) -> None:
    """Raise unless every group has a width in steps from its least to its most."""
    widths = dict(zip(cost.names, cost.dense.tolist(), strict=True))
    wrong = []
    for name, (step, least, most) in limits.items():
        smallest = min(-(-least // step) * step, widths[name])
        if smallest > most:
            wrong.append(
                f"{name}: at least {smallest} and at most {most} of {widths[name]} channels, in "
                f"steps of {step}"
            )
    if wrong:
        raise ValueError(
            f"every group needs a width between its least and its most, but {'; '.join(wrong)}; "
            "lower min_share or min_width, raise max_share, or take a smaller multiple_of"
        )
