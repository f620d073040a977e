"""Which networks are dominated: another costs no more, is no worse, and differs in one of both."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["dominators"]


def dominators(costs: Sequence[float], qualities: Sequence[float]) -> list[int | None]:
    """Return for each network the best of those that dominate it; None on the Pareto front.

    b dominates a where cost_b <= cost_a and quality_b >= quality_a, one of them strictly.

    Args:
        costs: lower is better.
        qualities: higher is better.

    Example:
        >>> dominators([1.0, 2.0, 3.0], [0.5, 0.9, 0.8])
        [None, None, 1]
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -qualities[i]))
    result: list[int | None] = [None] * len(costs)
    best: int | None = None
    for i in order:
        if best is None or qualities[i] > qualities[best]:
            best = i
        elif (costs[i], qualities[i]) != (costs[best], qualities[best]):
            result[i] = best
    return result
