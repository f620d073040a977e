"""One budget for channels and ranks: how far the first of them goes is searched, on a few parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from experiments.common.progress import left
from experiments.common.timing import Stopwatch
from experiments.compress.budget import part_of_the_way
from experiments.compress.judging import answers_of, distance_between
from experiments.compress.making import Making, digest
from experiments.compress.methods import factorized, pruned, traced
from experiments.compress.model import Model
from jaxcompress import recipes
from jaxcompress.annotations import Json

__all__ = ["PARTS", "candidates", "least"]

PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)
ROUNDS = 8
"""Masks that channels of candidates are scored at."""


def candidates(
    making: Making, order: tuple[str, str], shares: Mapping[str, float], key: str
) -> list[dict[str, Json]]:
    """Try each part cheaply, and say how far what is left is from the whole network's answers.

    Channels are scored by masked Fisher of a few rounds, without learned gates, and neither kernels
    nor factors are compensated; the distance is that on training examples which nothing was decided
    from.

    Args:
        making: what stages share.
        order: `("prune", "low_rank")`, or the other way round.
        shares: of the whole network that may be left in the end.
        key: digest of network and data.

    Returns:
        For each part its `part`, and `distance`, `flops` and `params`, or, as `refused`, why the
        budget is out of reach that way.
    """
    scoring, tried = making.config.scoring, []
    remembered = _remembered(recipes.Fisher(min(ROUNDS, scoring.rounds)))
    watch = Stopwatch()
    for number, part in enumerate(PARTS):
        pace = left(watch.seconds, number, len(PARTS))
        making.console.print(
            f"    {part:.0%} of the way by {order[0]}: {number + 1} of {len(PARTS)}, {pace}"
        )

        def work(part: float = part) -> dict[str, Json]:
            return _tried(making, order, shares, part, remembered)

        name = digest(
            key,
            "split",
            list(order),
            dict(shares),
            part,
            scoring.rounds,
            scoring.looked_at,
            *making.config.protect,
        )
        facts = making.stages.run(f"split-{name}", work)
        kept = ("part", "distance", "flops", "params", "refused", "seconds")
        tried.append({name: facts[name] for name in kept if name in facts})
        making.console.print(f"    {_told(facts)}", markup=False)
    return tried


def _told(facts: Mapping[str, Any]) -> str:
    if "refused" in facts:
        return f"out of reach: {facts['refused']}"
    return f"distance {facts['distance']:.4g} from the whole network's answers"


def least(tried: list[dict[str, Any]]) -> float:
    """Return the part of least distance.

    Raises:
        ValueError: if the budget is out of reach on every way.

    Example:
        >>> least([{"part": 0.0, "refused": "too small"}, {"part": 1.0, "distance": 2.0}])
        1.0
    """
    reached = [facts for facts in tried if "distance" in facts]
    if not reached:
        reasons = "; ".join(f"{facts['part']:.0%}: {facts['refused']}" for facts in tried)
        raise ValueError(f"budget: no split between the stages reaches it: {reasons}")
    best = min(reached, key=lambda facts: facts["distance"])
    return float(best["part"])


def _tried(
    making: Making,
    order: tuple[str, str],
    shares: Mapping[str, float],
    part: float,
    importance: Callable[..., Any],
) -> dict[str, Json]:
    """Compress by both, and compare answers."""
    task, scoring, looked = making.task, making.config.scoring, making.looked
    model, protect = task.model, making.config.protect
    steps = [(order[0], part, part > 0), (order[1], 1.0, part < 1)]
    try:
        for name, way, is_needed in steps:
            if not is_needed:
                continue
            budget = part_of_the_way(shares, way, making.graph)
            if name == "prune":
                is_first = model is task.model
                score = importance if is_first else recipes.Fisher(min(ROUNDS, scoring.rounds))
                key = making.key(1)
                model = pruned(
                    task, model, budget, looked, score, key, protect=protect, compensates=False
                )
            else:
                key = making.key(2)
                model = factorized(task, model, budget, looked, scoring, 0, key, protect)
    except ValueError as error:
        return {"part": part, "refused": str(error)}
    return {"part": part, **_compared(making, model)}


def _compared(making: Making, model: Model) -> dict[str, Json]:
    graph, task = traced(making.task, model), making.task
    answers = answers_of(task, model, making.held)
    distance = distance_between(task, answers, making.held_answers)
    return {"distance": distance, "flops": graph.flops, "params": graph.params}


def _remembered(importance: Callable[..., Any]) -> Callable[..., Any]:
    """Score once: scores of the whole network are the same for every budget."""
    known: list[Any] = []

    def score(problem: recipes.Problem, budget: Any, key: jax.Array) -> Any:
        if not known:
            known.append(importance(problem, budget, key))
        return known[0]

    return score
