"""Recovery of a network that was cut: some epochs on the whole network's answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcompress as jc
from benchmarks.adapting.ways import Chosen
from benchmarks.importance.task import Task
from experiments.common import data, score
from jaxcompress import training
from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.backend import fast_convolutions
from jaxcompress.knowledge.losses import kd

__all__ = ["Recovery"]

IMAGES, RATE, MOMENTUM, STATISTICS = 128, 0.02, 0.9, 4096


class Recovery:
    """A network that was cut, its step compiled once for schedules of any length.

    Args:
        task: the whole network and its images.
        chosen: what stays of it.
        images: of an epoch, in whole steps.
    """

    def __init__(self, task: Task, chosen: Chosen, images: int) -> None:
        self._task, self._variables = task, chosen.variables
        self._per_epoch = images // IMAGES
        self._compression = jc.shrink(task.graph, chosen.keep)
        function = self._compression.function(task.train_apply)
        normalize = data.preprocess(task.dataset)
        apply = self._compression.function(task.apply)
        self._function = function
        # The rate comes with each batch, so that one program serves all schedules.
        self._tx = optax.inject_hyperparams(optax.sgd)(learning_rate=RATE, momentum=MOMENTUM)

        def loss(variables: Array, batch: Batch, _: jax.Array) -> Any:
            logits, new_state = function(variables, batch["image"])
            distance = kd(logits, batch["logits"], score.LEARN_TEMPERATURE)
            return distance.mean(), (new_state, {})

        step = training.train_step(loss, self._tx)

        def at_rate(state: training.TrainState, batch: Batch, rate: Array) -> Any:
            rates = {**state.opt_state.hyperparams, "learning_rate": rate}
            opt_state = state.opt_state._replace(hyperparams=rates)
            return step(state._replace(opt_state=opt_state), batch, jax.random.key(0))[0]

        def right(variables: PyTree, images: jax.Array) -> jax.Array:
            return apply(variables, normalize(images)).argmax(-1)

        self._step = jax.jit(fast_convolutions(at_rate))
        self._answers = jax.jit(fast_convolutions(right))

    def after(self, steps: int, seed: int) -> Any:
        """Return the small network's variables after so many steps, statistics re-estimated."""
        start = self._renewed(self._compression.variables(self._variables), seed)
        state = training.init_state(start, self._tx)
        schedule = optax.cosine_decay_schedule(RATE, max(steps, 1))
        for number, batch in enumerate(self._batches(steps, seed)):
            state = self._step(state, batch, jnp.asarray(schedule(number)))
        return self._renewed(state.variables, seed) if steps else state.variables

    def _batches(self, steps: int, seed: int) -> Iterator[Batch]:
        """Draw images anew for every epoch, alike for all ways of one seed."""
        key = jax.random.fold_in(jax.random.key(11), seed)
        for start in range(0, steps, self._per_epoch):
            epoch = jax.random.fold_in(key, start // self._per_epoch)
            count = min(self._per_epoch, steps - start)
            batches = self._task.with_logits(self._task.batches(epoch, count, IMAGES))
            yield from (jax.tree.map(lambda leaf, i=i: leaf[i], batches) for i in range(count))

    def _renewed(self, variables: PyTree, seed: int) -> Any:
        key = jax.random.fold_in(jax.random.key(7), seed)
        images = self._task.batches(key, STATISTICS // 256, 256)["image"]
        function = self._function
        train = lambda tree, batch, _: function(tree, batch)  # noqa: E731
        return training.reestimate(train, variables, images, key=key)

    def accuracies(self, variables: PyTree) -> dict[str, float]:
        """Return the percentage that is right of each half of the test images."""
        images, labels = self._task.dataset.test_images, self._task.dataset.test_labels
        answers = [
            self._answers(variables, images[i : i + 250]) for i in range(0, len(images), 250)
        ]
        right = np.concatenate(answers) == labels
        half = len(right) // 2
        parts = {"choice": right[:half], "accuracy": right[half:]}
        return {name: round(100 * float(part.mean()), 2) for name, part in parts.items()}
