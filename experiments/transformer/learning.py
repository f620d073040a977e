"""AdamW over batches of sequences: a language model from scratch, a student by stored answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import Progress

from experiments.transformer.settings import Learning
from experiments.transformer.task import epoch, rows
from jaxcompress import sparse
from jaxcompress.annotations import PyTree
from jaxcompress.training import Loss, init_state, train_step

__all__ = ["learn"]


def learn(
    loss: Loss,
    variables: PyTree,
    sequences: Mapping[str, np.ndarray],
    learning: Learning,
    seed: int,
    knowledge: Mapping[str, np.ndarray] | None = None,
    wholes: Collection[str] = (),
    held: bool = False,
) -> tuple[PyTree, float]:
    """Return the variables after some steps, and the mean loss of the last tenth of them.

    Args:
        loss: `loss(variables, batch, key) -> (scalar, (new_state, metrics))`.
        variables: where to start.
        sequences: to learn from, see `Task`.
        learning: for how long, and how.
        seed: of the order.
        knowledge: stored answers, one row per sequence, that join the batch.
        wholes: names of what has no positions.
        held: whether weights that are zero stay so.
    """
    tx = _optimizer(learning)
    if held:
        tx = optax.chain(tx, _hold(variables))
    state = jax.tree.map(jnp.array, init_state(variables, tx))
    step = jax.jit(train_step(loss, tx), donate_argnums=0)
    random, key = np.random.default_rng(seed), jax.random.key(seed)
    losses: list[Any] = []
    with Progress(transient=True) as bar:
        task = bar.add_task("learning", total=learning.steps)
        while len(losses) < learning.steps:
            for chosen in epoch(sequences, learning.batch_size, random):
                batch = rows({**sequences, **(knowledge or {})}, chosen, wholes)
                state, metrics = step(state, batch, jax.random.fold_in(key, len(losses)))
                losses.append(metrics["loss"])
                if len(losses) % 50 == 0:
                    _check(losses)
                    bar.update(task, completed=len(losses))
                if len(losses) == learning.steps:
                    break
    _check(losses)
    last = losses[-max(1, learning.steps // 10) :]
    return jax.device_get(state.variables), float(np.mean(jax.device_get(last)))


def _optimizer(learning: Learning) -> optax.GradientTransformation:
    rate = optax.warmup_cosine_decay_schedule(
        0.0, learning.rate, learning.steps // 10, learning.steps
    )
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.99))


def _hold(variables: PyTree) -> optax.GradientTransformation:
    """Change no kernel's weight that is zero."""
    masks = sparse.nonzero_masks(variables)
    return optax.stateless(lambda updates, _: sparse.masked(updates, masks))


def _check(losses: list[Any]) -> None:
    value = float(losses[-1])
    if not np.isfinite(value):
        raise FloatingPointError(
            f"training goes on while its loss is finite, but after step {len(losses)} it is "
            f"{value}; lower --recovery.rate or --training.rate"
        )
