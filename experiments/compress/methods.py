"""What the stages do to a network: channels go, kernels become factors, weights become zero."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import jax
import numpy as np

import jaxcompress as jc
from experiments.compress.data import batches_of, first_rows
from experiments.compress.fitting import Task
from experiments.compress.model import Model
from experiments.compress.settings import Scoring
from jaxcompress import recipes
from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.knowledge import cross_entropy
from jaxcompress.low_rank.ranks import default_forms
from jaxcompress.paths import fits_any, flatten_with_paths

__all__ = ["factorized", "matching", "pruned", "renewed", "sparsified", "traced"]

SIZE, MOST_BYTES = 128, 2**24
"""Examples of a batch that is looked at, at most, and what they take: large ones are fewer."""
COMPENSATED = 512
"""Examples that kernels make up for lost channels on, at most."""
STATISTICS = 2048
"""Examples that BatchNorm is re-estimated on, at most."""


def traced(task: Task, model: Model, batch: int = 1) -> jc.Graph:
    """Return the graph of a network of a task, at a batch of so many examples."""
    one = task.one()
    inputs = jax.ShapeDtypeStruct((batch, *one.shape[1:]), one.dtype)
    return jc.trace(model.apply, model.variables, inputs)


def matching(patterns: Sequence[str], paths: Collection[str]) -> tuple[str, ...]:
    """Return the patterns that fit a path; kernels that became factors have other paths.

    Example:
        >>> matching(["*/head/*", "*/neck/*"], ["params/head/bias"])
        ('*/head/*',)
    """
    return tuple(pattern for pattern in patterns if any(fits_any(p, [pattern]) for p in paths))


def size_of(task: Task) -> int:
    """Return how many examples are looked at in one go."""
    one = task.one()
    return max(8, min(SIZE, MOST_BYTES // max(1, one.size * one.dtype.itemsize)))


def pruned(
    task: Task,
    model: Model,
    budget: jc.Budget,
    looked: dict[str, np.ndarray],
    importance: Any,
    key: jax.Array,
    graph: jc.Graph | None = None,
    *,
    protect: Sequence[str] = (),
    compensates: bool = True,
) -> Model:
    """Remove channels until the budget is met; kernels make up for those they no longer see.

    Args:
        task: what the network is for.
        model: the network, as it is by now.
        budget: in numbers.
        looked: examples that channels are scored on.
        importance: how.
        key: of all that is random.
        graph: of the network, traced otherwise than on one example.
        protect: patterns of leaf paths whose channels stay.
        compensates: without it kernels stay as they are, which is quicker and does to compare.
    """
    has_norms = _has_statistics(task, model)
    graph = traced(task, model) if graph is None else graph
    compression = recipes.prune(
        model.apply,
        model.variables,
        batches_of(looked, size_of(task)),
        budget,
        key=key,
        loss=_label_loss(task, model) if task.learns_from_labels else None,
        train_apply=model.train_apply if has_norms else None,
        distance=task.outputs,
        importance=importance,
        protect=matching(protect, graph.leaves),
        inputs=task.data.inputs,
        graph=graph,
    )
    whole = model.variables
    if compensates:
        whole = recipes.compensate(
            model.apply,
            whole,
            batches_of(looked, size_of(task)),
            compression,
            examples=COMPENSATED,
            size=min(32, size_of(task)),
            inputs=task.data.inputs,
            graph=graph,
        )
    small = model.after(compression, compression.variables(whole))
    return renewed(task, small, looked, compares=compensates)


def factorized(
    task: Task,
    model: Model,
    budget: jc.Budget,
    looked: dict[str, np.ndarray],
    scoring: Scoring,
    sweeps: int,
    key: jax.Array,
    protect: Sequence[str] = (),
) -> Model:
    """Put two factors in the place of kernels until the budget is met.

    Args:
        task: what the network is for.
        model: the network, as it is by now.
        budget: in numbers.
        looked: examples that ranks are chosen on.
        scoring: how many of them.
        sweeps: in which factors make up for the network before them.
        key: of all that is random.
        protect: patterns of kernels that stay.
    """
    # Where statistics are named otherwise than mean and var, they are renewed at the end alone.
    has_norms = _has_statistics(task, model)
    graph = traced(task, model)
    forms = default_forms(graph)
    examples = min(scoring.looked_at, len(looked["image"]))
    size = min(size_of(task), examples)
    settings = recipes.LowRankSettings(
        examples=examples, size=size, fitting=min(256, examples), fitting_size=min(32, size)
    )
    result = recipes.low_rank(
        model.apply,
        model.variables,
        batches_of(looked, size_of(task)),
        budget,
        key=key,
        train_apply=model.train_apply if has_norms and model.statistics is None else None,
        distance=task.outputs,
        forms={path: form for path, form in forms.items() if not fits_any(path, protect)},
        compensate=sweeps,
        settings=settings,
        inputs=task.data.inputs,
        graph=graph,
    )
    small = model.after(result.compression, result.variables)
    return renewed(task, small, looked, compares=sweeps > 0)


def sparsified(
    task: Task,
    model: Model,
    sparsity: float,
    looked: dict[str, np.ndarray],
    scoring: Scoring,
    protect: Sequence[str] = (),
) -> Model:
    """Set a share of the kernels' weights to zero, and move the others to make up for them."""
    graph = traced(task, model)
    result = recipes.sparse(
        model.apply,
        model.variables,
        batches_of(looked, size_of(task)),
        sparsity,
        examples=scoring.looked_at,
        protect=matching(protect, graph.leaves),
        inputs=task.data.inputs,
        graph=graph,
    )
    small = model.after(result.compression, result.variables)
    return renewed(task, small, looked)


def _label_loss(task: Task, model: Model) -> Any:
    """Return the cross-entropy, in training mode where there is one."""

    def loss(variables: PyTree, batch: Batch) -> jax.Array:
        inputs = task.data.inputs(batch)
        if model.train_apply is None:
            logits = model.apply(variables, inputs)
        else:
            logits, _ = model.train_apply(variables, inputs, jax.random.key(0))
        return cross_entropy(logits, batch["label"]).mean()

    return loss


def _has_statistics(task: Task, model: Model) -> bool:
    """Whether there are BatchNorms, whose statistics the training mode returns."""
    if model.train_apply is None or model.statistics is not None:
        return bool(model.statistics)
    arguments = model.variables, task.one(), jax.random.key(0)
    state = flatten_with_paths(jax.eval_shape(model.train_apply, *arguments)[1])[0]
    return any(path.split("/")[-1] == "mean" for path in state)


def renewed(task: Task, model: Model, looked: dict[str, Array], *, compares: bool = True) -> Model:
    """Re-estimate the statistics of BatchNorms, where there are any, as far as that helps.

    Args:
        task: what the network is for.
        model: the network.
        looked: examples that they are estimated on.
        compares: without it they are re-estimated whatever the answers, which is quicker.
    """
    if model.train_apply is None or not _has_statistics(task, model):
        return model
    variables = recipes.renew(
        model.apply,
        model.variables,
        batches_of(first_rows(looked, STATISTICS), size_of(task)),
        (task.model.apply, task.model.variables),
        train_apply=model.train_apply,
        key=jax.random.key(0),
        distance=task.outputs,
        statistics=model.statistics,
        shares=recipes.SHARES if compares else (1.0,),
        examples=STATISTICS,
        size=size_of(task),
        inputs=task.data.inputs,
    )
    return model._replace(variables=variables)
