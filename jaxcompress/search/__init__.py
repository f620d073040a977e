"""What to remove: budgets, comparable scores, and the selection under a budget.

A `Budget` bounds the cost; `per_group` and `per_cost` make scores comparable; `select` turns them
into a keep on the host, `threshold` into gates inside jit.
"""

from __future__ import annotations

from jaxcompress.search.budget import Budget
from jaxcompress.search.internal import internal_groups
from jaxcompress.search.normalise import channel_costs, per_cost, per_group
from jaxcompress.search.select import select, threshold

__all__ = [
    "Budget",
    "channel_costs",
    "internal_groups",
    "per_cost",
    "per_group",
    "select",
    "threshold",
]
