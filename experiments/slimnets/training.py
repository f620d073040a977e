"""How a row of SlimNets is trained: its loss, optimizer, masks and schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

import jaxcompress as jc
from experiments.common import data, loop
from experiments.common.network import Network
from experiments.common.teaching import stored_logits
from experiments.slimnets.network import dense_params, views_of
from experiments.slimnets.presets import Preset
from experiments.slimnets.rows import Recipe
from jaxcompress import parallel, sparse
from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.backend import fast_convolutions
from jaxcompress.graph import default_trainable
from jaxcompress.knowledge.losses import cross_entropy, kd
from jaxcompress.paths import flatten_with_paths
from jaxcompress.sparse import sparsify
from jaxcompress.sparse.masks import prunable
from jaxcompress.sparse.schedule import Schedule, cubic, one_shot

__all__ = ["objective", "optimizer", "schedule_of", "sparsity_for", "trained"]

TEMPERATURE, ALPHA = 20.0, 0.7


def trained(
    recipe: Recipe,
    made: Network,
    teacher: Network | None,
    preset: Preset,
    dataset: data.Dataset,
    key: jax.Array,
    mesh: Mesh,
    folder: Path | None = None,
) -> Network:
    """Train under masks if the recipe prunes, with the teacher if it distils.

    Where there is a folder, the state is kept there, see `loop.train`.
    """
    only_prunes = recipe.prunes and recipe.teacher is None
    epochs = preset.prune_epochs if only_prunes else preset.epochs
    batch_size = preset.prune_batch_size if only_prunes else preset.batch_size
    steps = epochs * (len(dataset.train_labels) // batch_size)
    tx = optimizer(recipe, preset, steps)
    if recipe.prunes:
        sparsity = target_of(recipe, made.variables, dense_params(preset, dataset))
        tx = sparse.sparse_optimizer(tx, schedule_of(recipe, sparsity, steps), scope=recipe.scope)
    loss, variables, extra = objective(made, teacher, dataset, preset.online)
    result = loop.train(
        loss,
        tx,
        variables,
        dataset,
        epochs=epochs,
        batch_size=batch_size,
        key=key,
        mesh=mesh,
        views=None if only_prunes else views_of(preset),
        extra=extra,
        trainable=lambda path, leaf: path.startswith("student/params/"),
        folder=folder,
    )
    # Where the loop's devices share arrays, artifacts and measurements want them on one.
    variables = parallel.on_one_device(result.state.variables["student"])
    made = made._replace(variables=variables)
    return pruned(made, sparse.masks_of(result.state.opt_state)) if recipe.prunes else made


def pruned(made: Network, kept: dict[str, jax.Array]) -> Network:
    """Make the zeros of the student's masks a part of how it was compressed."""
    masks = {path.removeprefix("student/"): parallel.on_host(mask) for path, mask in kept.items()}
    change = sparsify(made.variables, masks)
    return made._replace(
        variables=change.variables(made.variables), compression=jc.chain(made.compression, change)
    )


def optimizer(recipe: Recipe, preset: Preset, steps: int) -> optax.GradientTransformation:
    """SGD with momentum; rows that only prune have a rate of their own and no weight decay."""
    only_prunes = recipe.prunes and recipe.teacher is None
    peak = preset.prune_rate if only_prunes else recipe.rate * preset.rate_scale
    clip = optax.clip_by_global_norm(1.0) if preset.one_cycle else optax.identity()
    decay = optax.identity() if only_prunes else optax.add_decayed_weights(5e-4)
    rate: optax.Schedule = optax.constant_schedule(peak)
    if preset.one_cycle:
        rate = optax.cosine_onecycle_schedule(steps, peak, pct_start=0.25)
    elif not only_prunes:
        halvings = {steps * part // 10: 0.5 for part in range(1, 10)}
        rate = optax.piecewise_constant_schedule(peak, halvings)
    return optax.chain(clip, decay, optax.sgd(rate, momentum=0.9))


def target_of(recipe: Recipe, variables: PyTree, dense: int) -> float:
    """Return the sparsity at which the schedule ends; `dense` are VGG-19's parameters."""
    if recipe.fewer is None:
        assert recipe.sparsity is not None
        return recipe.sparsity
    return sparsity_for(variables, int(dense / recipe.fewer))


def sparsity_for(variables: PyTree, budget: int) -> float:
    """Return the sparsity of the kernels that leaves this many trainable non-zeros, biases counted.

    Raises:
        ValueError: if biases and norms, which are not pruned, fill the budget.

    Example:
        >>> variables = {"kernel": np.ones((10, 10)), "bias": np.ones(10)}
        >>> sparsity_for(variables, budget=30)
        0.8
    """
    leaves, _ = flatten_with_paths(variables)
    trainable, paths = default_trainable(variables), prunable(leaves)
    total = sum(np.size(leaf) for path, leaf in leaves.items() if trainable(path, leaf))
    pruned = sum(np.size(leaves[path]) for path in paths)
    if budget <= total - pruned:
        raise ValueError(
            f"a budget of non-zeros leaves some of the kernels, but {total - pruned} of {budget} "
            "are biases and norms, which are not pruned; ask for a smaller ratio"
        )
    return max(0.0, 1 - (budget - (total - pruned)) / pruned)


def schedule_of(recipe: Recipe, sparsity: float, steps: int) -> Schedule:
    """At once, or by Zhu and Gupta's cubic in 100 events over the first half of training."""
    if not recipe.gradual:
        return one_shot(sparsity)
    events = min(100, max(steps // 2, 1))
    every = max(steps // 2 // events, 1)
    return cubic(sparsity, begin=0, end=every * events, every=every)


def objective(
    made: Network, teacher: Network | None, dataset: data.Dataset, online: bool
) -> tuple[Any, Any, dict[str, Any] | None]:
    """Return loss, variables and extra arrays for the loop.

    With a teacher, per example, alpha (2 / classes) KD + (1 - alpha) CE, where KD includes T^2.
    The paper's code writes KLDiv * (T^2 2 alpha), but PyTorch's KLDivLoss of its time averaged over
    batch and classes alike: that is the division by the number of classes here.
    """
    variables = {"student": made.variables}
    train_apply, extra = made.train_apply, None
    if teacher is not None and online:
        variables["teacher"] = teacher.variables
    elif teacher is not None:
        extra = {"logits": recorded(teacher, dataset)}

    def loss(params: Array, batch: Batch, key: jax.Array) -> Any:
        logits, state = train_apply(params["student"], batch["image"], key)
        value = cross_entropy(logits, batch["label"])
        if teacher is not None:
            target = batch.get("logits")
            if target is None:
                target = teacher.apply(params["teacher"], batch["image"])
            weight = 2 * ALPHA / dataset.num_classes
            value = weight * kd(logits, target, TEMPERATURE) + (1 - ALPHA) * value
        return value.mean(), ({"student": state} if state else {}, {})

    return loss, variables, extra


def recorded(teacher: Network, dataset: data.Dataset) -> np.ndarray:
    """Return the teacher's logits of all training images, without augmentation."""
    preprocess = data.preprocess(dataset)
    whole = fast_convolutions(
        lambda variables, images: teacher.apply(variables, preprocess(images))
    )
    return stored_logits(whole, teacher.variables, dataset.train_images)
