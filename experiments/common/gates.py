"""Learned gates whose progress is shown: what recipes score channels by in long commands."""

from __future__ import annotations

from typing import Any

import jax
from rich.console import Console

from experiments.common.progress import steps as shown_steps
from jaxcompress import recipes
from jaxcompress.annotations import Function, PyTree
from jaxcompress.backend import compiled

__all__ = ["importance_of"]


def importance_of(
    fisher: recipes.Fisher, steps: int, examples: int, console: Console
) -> recipes.Importance:
    """Return how channels are scored: by gates learned from masked Fisher, or by that alone.

    Args:
        fisher: where gates start.
        steps: of the learning; 0 for none.
        examples: of each step.
        console: where progress is shown; each step is waited for.

    Example:
        >>> importance_of(recipes.Fisher(8), 0, 32, Console(quiet=True)).rounds
        8
    """
    if not steps:
        return fisher

    def shown(step: Function) -> Function:
        run = compiled(step)
        ticks = shown_steps(range(steps), steps, "learning gates", console)

        def counted(*arguments: PyTree) -> Any:
            next(ticks)
            return jax.block_until_ready(run(*arguments))

        return counted

    console.print(f"    scoring channels at {fisher.rounds} random masks")
    return recipes.Learned(fisher, steps, examples, shown)
