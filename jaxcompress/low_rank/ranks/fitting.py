"""One scalar decides all ranks: the largest that fits a budget, by bisection.

The equal-metric ranks of ENC and the baselines differ only in what the scalar means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from jaxcompress.low_rank.ranks.table import SiteTable

__all__ = ["check_reachable", "largest_fitting"]

ROUNDS = 50


def largest_fitting(
    table: SiteTable,
    ceilings: Mapping[str, float],
    ranks_at: Callable[[float], np.ndarray],
) -> tuple[np.ndarray, float]:
    """Return the ranks, `int[sites]`, at the largest level in [0, 1] that fits, and that level.

    Args:
        table: the sites; ranks are clipped to what it allows.
        ceilings: absolute, by kind, see `SiteTable.ceilings`; reachable.
        ranks_at: ranks at a level, none falling as it rises.
    """

    def at(level: float) -> np.ndarray:
        return table.clip(ranks_at(level))

    if table.fits(at(1.0), ceilings):
        return at(1.0), 1.0
    low, high = 0.0, 1.0
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if table.fits(at(middle), ceilings) else (low, middle)
    return at(low), low


def check_reachable(table: SiteTable, ceilings: Mapping[str, float]) -> None:
    """Refuse ceilings that even the lowest ranks exceed, all at once.

    Raises:
        ValueError: naming the smallest reachable cost of each kind.
    """
    lowest, total = table.clip(table.lowest), table.total
    wrong = []
    for kind, limit in ceilings.items():
        least = float(table.cost(kind, lowest))
        if least > limit + 1e-9 * total[kind]:
            wrong.append(
                f"{kind} <= {limit:,.0f}, but the smallest reachable is {least:,.0f}, "
                f"{least / total[kind]:.4f} of {total[kind]:,.0f}"
            )
    if wrong:
        raise ValueError(
            f"a budget must be reachable at the lowest ranks, and asks for {'; '.join(wrong)}; "
            "raise the budget, lower `lowest` of the table, or let more sites be factorized"
        )
