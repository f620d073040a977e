"""The stages that take something away, at full care, and what they are to reach."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jaxcompress as jc
from experiments.common.gates import importance_of
from experiments.compress.fitting import Task
from experiments.compress.making import Made, Making
from experiments.compress.methods import factorized, matching, pruned, sparsified, traced
from experiments.compress.model import Model
from jaxcompress import artifact, recipes, sparse
from jaxcompress.processes import by_first

__all__ = ["removed", "zeroed"]

SWEEPS = 2
HALVINGS = 7
MARGIN = 0.97
"""Weights that have learned on compress a little less."""


def removed(making: Making, stage: str, made: Made, budget: jc.Budget) -> tuple[Model, Any]:
    """Remove channels or ranks until the budget is met.

    Args:
        making: what stages share.
        stage: `prune` or `low_rank`.
        made: what the stage before has left.
        budget: in numbers.
    """
    task, scoring, looked = making.task, making.config.scoring, making.looked
    protect = making.config.protect
    if stage == "prune":
        fisher = recipes.Fisher(scoring.rounds)
        importance = importance_of(fisher, scoring.steps, scoring.examples, making.console)
        graph = making.traced(made.model)
        key = making.key(1)
        model = pruned(task, made.model, budget, looked, importance, key, graph, protect=protect)
    else:
        key = making.key(2)
        model = factorized(task, made.model, budget, looked, scoring, SWEEPS, key, protect)
    return model, {"ceilings": budget.ceilings()}


def zeroed(making: Making, made: Made, most: float | None) -> tuple[Model, Any]:
    """Set weights of kernels to zero: the share that is asked, or as many as a size needs.

    Args:
        making: what stages share.
        made: what the stage before has left.
        most: bytes that the artifact may take; None where the share is asked.
    """
    task, config = making.task, making.config
    protect, sparsity = config.protect, config.sparsity
    if most is not None:
        sparsity = zeros_for_bytes(task, made.model, most, protect)
    model = sparsified(task, made.model, sparsity, making.looked, config.scoring, protect)
    return model, {"sparsity": sparsity}


def zeros_for_bytes(task: Task, model: Model, most: float, protect: Sequence[str] = ()) -> float:
    """Return the least share of zeros with which an artifact in int8 fits, by saving some.

    Where none fits, as many as there can be.

    Args:
        task: what the network is for.
        model: the network.
        most: bytes.
        protect: patterns of leaf paths that keep their weights.
    """
    graph, few, many = traced(task, model), 0.0, 1.0
    protect = matching(protect, graph.leaves)
    enough: float | None = None

    def size(sparsity: float) -> int | None:
        try:
            masks = sparse.make_masks(model.variables, sparsity, protect=protect, graph=graph)
        except ValueError:  # every output keeps a weight
            return None
        zeroed = sparse.masked(model.variables, masks)
        with tempfile.TemporaryDirectory() as folder:
            # Of several processes the first alone writes, and its folder tells the size.
            trial = Path(folder) / "trial"
            jc.save(trial, model.compression, zeroed, encoding=artifact.Encoding("int8"))
            return int(by_first("bytes", lambda: artifact.num_bytes(trial)))

    for _ in range(HALVINGS):
        middle = (few + many) / 2
        bytes_left = size(middle)
        if bytes_left is not None and bytes_left > MARGIN * most:
            few = middle
            continue
        many, enough = middle, enough if bytes_left is None else middle
    return few if enough is None else enough
