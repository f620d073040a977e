"""AdamW over batches of sequences: a language model from scratch, a student by stored answers.

All devices share a batch, where its size divides by their number; otherwise each takes all of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import Progress

from experiments.common.sharing import keyed_step, shared_batch
from experiments.transformer.settings import Learning
from experiments.transformer.task import epoch, rows
from jaxcompress import parallel, sparse
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
    mesh, random = parallel.mesh(), np.random.default_rng(seed)
    step = keyed_step(train_step(loss, tx), mesh, partial(jax.jit, donate_argnums=0))
    # A copy, because the step of one device donates its state.
    state = jax.tree.map(jnp.array, init_state(variables, tx))
    state, key = parallel.replicate((state, jax.random.key(seed)), mesh)
    losses: list[Any] = []
    with Progress(transient=True) as bar:
        task = bar.add_task("learning", total=learning.steps)
        while len(losses) < learning.steps:
            for chosen in epoch(sequences, learning.batch_size, random):
                batch = rows({**sequences, **(knowledge or {})}, chosen, wholes)
                state, metrics = step(state, shared_batch(batch, mesh), key)
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
    # On the host: a program of several processes takes no array of one of them.
    masks = jax.device_get(sparse.nonzero_masks(variables))
    return optax.stateless(lambda updates, _: sparse.masked(updates, masks))


def _check(losses: list[Any]) -> None:
    value = float(losses[-1])
    if not np.isfinite(value):
        raise FloatingPointError(
            f"training goes on while its loss is finite, but after step {len(losses)} it is "
            f"{value}; lower --recovery.rate or --training.rate"
        )
