"""Gradient steps over examples in memory: of a new network, or of one that is taught.

All devices share a batch, where its size divides by their number; otherwise each takes all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from experiments.common.progress import steps
from experiments.common.sharing import keyed_step, shared_batch
from experiments.common.stopping import keeping
from experiments.compress.compiling import compiled
from experiments.compress.settings import Config
from jaxcompress import parallel, sparse
from jaxcompress.annotations import Json, PyTree
from jaxcompress.training import Loss, init_state, train_step

__all__ = ["learn"]

CHECKED = 20


def learn(
    loss: Loss,
    variables: PyTree,
    arrays: Mapping[str, np.ndarray],
    epochs: int,
    config: Config,
    console: Console,
    are_zeros_held: bool = False,
    folder: Path | None = None,
) -> tuple[PyTree, dict[str, Json]]:
    """Return the variables after some passes over the examples, and what it took.

    Args:
        loss: `loss(variables, batch, key) -> (scalar, (new_state, metrics))`.
        variables: where to start.
        arrays: `[examples, ...]`, of which a batch has rows.
        epochs: passes.
        config: the optimizer, its rate, the size of batches, the seed.
        console: for the progress.
        are_zeros_held: whether kernels' weights that are zero stay so.
        folder: where the state is kept, and where a run that was killed goes on; None: nowhere.

    Raises:
        FloatingPointError: if the loss is NaN or infinite.
    """
    count = len(arrays["image"])
    size = min(config.batch_size, count)
    total = epochs * (count // size)
    tx = _optimizer(config, total)
    if are_zeros_held:
        # On the host: a program of several processes takes no array of one of them.
        masks = jax.device_get(sparse.nonzero_masks(variables))
        tx = optax.chain(tx, optax.stateless(lambda updates, _: sparse.masked(updates, masks)))
    mesh = parallel.mesh()
    state = init_state(jax.tree.map(jnp.asarray, variables), tx)
    step = keyed_step(train_step(loss, tx), mesh, compiled)
    state, key = parallel.replicate((state, jax.random.key(config.seed)), mesh)
    losses: list[Any] = []
    with keeping(folder) as kept:
        state = kept.restored(state)
        first = int(state.step)
        rest = islice(_rows(count, size, epochs, config.seed), first, None)
        for number, rows in enumerate(steps(rest, total - first, "learning", console), first):
            batch = {name: array[rows] for name, array in arrays.items()}
            state, metrics = step(state, shared_batch(batch, mesh), key)
            losses.append(metrics["loss"])
            if (number + 1) % CHECKED == 0 or number + 1 == total:
                _check(losses[-1], number + 1)
                kept.at_times(state)
    return jax.device_get(state.variables), {"steps": total, **_last(losses, total)}


def _last(losses: list[Any], total: int) -> dict[str, Json]:
    """Return the mean loss of the last tenth of the steps, as far as they were run here."""
    last = [float(value) for value in losses[-max(1, total // 10) :]]
    return {"loss": float(np.mean(last))} if last else {}


def _rows(count: int, size: int, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the examples of each batch: all once an epoch, the remainder left out."""
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        order = random.permutation(count)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]


def _optimizer(config: Config, total: int) -> optax.GradientTransformation:
    rate = optax.warmup_cosine_decay_schedule(0.0, config.rate, max(1, total // 10), total + 1)
    if config.optimizer == "adamw":
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-4))
    momentum = optax.sgd(rate, momentum=0.9, nesterov=True)
    return optax.chain(optax.clip_by_global_norm(5.0), optax.add_decayed_weights(1e-4), momentum)


def _check(loss: Any, count: int) -> None:
    value = float(loss)
    if not np.isfinite(value):
        raise FloatingPointError(
            f"training goes on while its loss is finite, but after step {count} it is "
            f"{value}; lower --rate, or look for large values in the inputs"
        )
