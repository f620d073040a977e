"""The stages that take something away, at full care, and what they are to reach."""

from __future__ import annotations

from typing import Any

import jax
from rich.console import Console

import jaxcompress as jc
from experiments.common.progress import steps
from experiments.compress.compiling import compiled
from experiments.compress.making import Made, Making
from experiments.compress.methods import factorized, pruned, sparsified, traced
from experiments.compress.model import Model
from experiments.compress.settings import Scoring
from jaxcompress import recipes
from jaxcompress.annotations import Function, PyTree

__all__ = ["removed", "zeroed", "zeros_for_bytes"]

SWEEPS = 2
MOST_ZEROS = 0.99


def removed(making: Making, stage: str, made: Made, budget: jc.Budget) -> tuple[Model, Any]:
    """Remove channels or ranks until the budget is met.

    Args:
        making: what stages share.
        stage: `prune` or `low_rank`.
        made: what the stage before has left.
        budget: in numbers.
    """
    task, scoring, looked = making.task, making.config.scoring, making.looked
    if stage == "prune":
        importance = importance_of(scoring, making.console)
        model = pruned(task, made.model, budget, looked, importance, making.key(1))
    else:
        model = factorized(task, made.model, budget, looked, scoring, SWEEPS, making.key(2))
    return model, {"ceilings": budget.ceilings()}


def importance_of(scoring: Scoring, console: Console) -> recipes.Importance:
    """Return how channels are scored: learned gates, or masked Fisher alone."""
    fisher = recipes.Fisher(scoring.rounds)
    if not scoring.steps:
        return fisher

    def shown(step: Function) -> Function:
        run = compiled(step)
        ticks = steps(range(scoring.steps), scoring.steps, "learning gates", console)

        def counted(*arguments: PyTree) -> Any:
            next(ticks)
            return jax.block_until_ready(run(*arguments))

        return counted

    console.print(f"    scoring channels at {scoring.rounds} random masks")
    return recipes.Learned(fisher, scoring.steps, scoring.examples, shown)


def zeroed(making: Making, made: Made, sparsity: float) -> tuple[Model, Any]:
    """Set a share of the kernels' weights to zero."""
    model = sparsified(making.task, made.model, sparsity, making.looked, making.config.scoring)
    return model, {"sparsity": sparsity}


def zeros_for_bytes(making: Making, made: Made, whole: Made) -> float:
    """Return the share of zeros with which int8 and one bit per weight fit the budget of bytes.

    Of n weights and a bytes beside them, s = 1 - (most - a - n / 8) / n.
    """
    share = dict(word.split("=") for word in making.config.budget)["bytes"]
    most = float(share) * whole.facts["bytes"]
    weights = float(traced(making.task, made.model).params)
    beside = max(0.0, made.facts["bytes"] - 4 * weights)
    kept = (most - beside - weights / 8) / weights
    return round(min(max(0.0, 1 - kept), MOST_ZEROS), 4)
