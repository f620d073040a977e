"""A short training after pruning: does a better choice still show once the weights may follow?

The network keeps its shape and has gates at 0, so that one compiled step serves every choice. What
is learned is the dense network's own answers, from images that its scoring may have seen too.
"""

from __future__ import annotations

from typing import Any

import jax
import optax

import jaxcompress as jc
from benchmarks.importance.task import Task
from jaxcompress import training
from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.backend import fast_convolutions
from jaxcompress.knowledge.losses import kd

__all__ = ["Recover"]

IMAGES, RATE, MOMENTUM, TEMPERATURE = 128, 0.01, 0.9, 4.0


class Recover:
    """Trains the variables of a gated network for a few steps; compiled once."""

    def __init__(self, task: Task, steps: int) -> None:
        self._task, self._steps = task, steps
        gated = jc.gated(task.graph, lambda variables, images: task.train_apply(variables, images))
        tx = optax.sgd(optax.cosine_decay_schedule(RATE, steps), MOMENTUM)

        def step(state: training.TrainState, gates: PyTree, batch: Batch) -> training.TrainState:
            def loss(variables: Array, batch: Batch, _: jax.Array) -> Any:
                logits, new_state = gated(variables, gates, batch["image"])
                return kd(logits, batch["logits"], TEMPERATURE).mean(), (new_state, {})

            return training.train_step(loss, tx)(state, batch, jax.random.key(0))[0]

        self._tx = tx
        self._step = jax.jit(fast_convolutions(step))

    def __call__(self, variables: PyTree, gates: PyTree, key: jax.Array) -> Any:
        """Return trained variables; `gates` at 0 are what was pruned."""
        batches = self._task.batches(key, self._steps, IMAGES)
        batches = self._task.with_logits(batches)
        state = training.init_state(variables, self._tx)
        for number in range(self._steps):
            batch = jax.tree.map(lambda leaf, number=number: leaf[number], batches)
            state = self._step(state, gates, batch)
        return state.variables
