"""What the searches share: ceilings that can be held, and the largest level that holds them.

ENC-Map and the simple searches let one scalar decide all ranks, and differ only in what it means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank.ranks.sites import Ranks, Sites

__all__ = ["largest_fitting", "ranks_at_largest_level", "reachable_ceilings"]

ROUNDS = 50


def ranks_at_largest_level(
    sites: Sites, budget: Budget, ranks_at: Callable[[float], np.ndarray]
) -> Ranks:
    """Return the ranks at the largest level in [0, 1] that fits the budget.

    Args:
        sites: ranks are clipped to what they allow.
        budget: fractions are of `sites.total`.
        ranks_at: `float[sites]` at a level, none falling as it rises.

    Raises:
        ValueError: if the budget is below the smallest reachable cost.
    """
    return sites.named(largest_fitting(sites, reachable_ceilings(sites, budget), ranks_at))


def largest_fitting(
    sites: Sites, ceilings: Mapping[str, float], ranks_at: Callable[[float], np.ndarray]
) -> np.ndarray:
    """Return the ranks, `int[sites]`, at the largest level in [0, 1] that fits, by bisection.

    Where no level fits, they are those of level 0.

    Args:
        sites: ranks are clipped to what they allow.
        ceilings: absolute, by kind.
        ranks_at: `float[sites]` at a level, none falling as it rises.
    """

    def at(level: float) -> np.ndarray:
        return sites.clip(ranks_at(level))

    if sites.fits(at(1.0), ceilings):
        return at(1.0)
    low, high = 0.0, 1.0
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if sites.fits(at(middle), ceilings) else (low, middle)
    return at(low)


def reachable_ceilings(sites: Sites, budget: Budget) -> dict[str, float]:
    """Return the budget's ceilings as absolute numbers, none below the cost of the lowest ranks.

    Raises:
        ValueError: naming the smallest reachable cost of each kind, or kinds that are not counted.
    """
    ceilings, total = sites.ceilings(budget), sites.total
    lowest = sites.clip(sites.lowest)
    wrong = []
    for kind, limit in ceilings.items():
        least = float(sites.cost(kind, lowest))
        if least > limit + 1e-9 * total[kind]:
            wrong.append(
                f"{kind} <= {limit:,.0f}, but the smallest reachable is {least:,.0f}, "
                f"{least / total[kind]:.4f} of {total[kind]:,.0f}"
            )
    if wrong:
        raise ValueError(
            f"a budget must be reachable at the lowest ranks, and asks for {'; '.join(wrong)}; "
            "raise the budget, lower `lowest` of the sites, or let more sites be factorized"
        )
    return ceilings
