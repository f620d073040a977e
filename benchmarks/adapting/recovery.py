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

__all__ = ["Lessons", "Recovery"]

IMAGES, RATE, MOMENTUM, STATISTICS = 128, 0.02, 0.9, 4096


class Lessons:
    """What is shown while networks recover, alike for all of one seed: the teacher is asked once.

    Args:
        task: the whole network and its images.
        images: of an epoch, in whole steps.
    """

    def __init__(self, task: Task, images: int) -> None:
        self._task, self.per_epoch = task, images // IMAGES
        self._answers: dict[tuple[int, int], jax.Array] = {}

    def batches(self, steps: int, seed: int) -> Iterator[Batch]:
        """Yield a batch for each step; images are drawn anew for every epoch."""
        for start in range(0, steps, self.per_epoch):
            epoch = self._epoch(seed, start // self.per_epoch)
            for number in range(min(self.per_epoch, steps - start)):
                yield jax.tree.map(lambda leaf, i=number: leaf[i], epoch)

    def _epoch(self, seed: int, number: int) -> dict[str, jax.Array]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(11), seed), number)
        batches = self._task.batches(key, self.per_epoch, IMAGES)
        if (seed, number) not in self._answers:
            self._answers[seed, number] = self._task.with_logits(batches)["logits"]
        return {**batches, "logits": self._answers[seed, number]}


class Recovery:
    """A network that was cut, its step compiled once for schedules of any length.

    Args:
        task: the whole network and its images.
        chosen: what stays of it.
        lessons: what it is shown.
    """

    def __init__(self, task: Task, chosen: Chosen, lessons: Lessons) -> None:
        self._task, self._variables, self._lessons = task, chosen.variables, lessons
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
        for number, batch in enumerate(self._lessons.batches(steps, seed)):
            state = self._step(state, batch, jnp.asarray(schedule(number)))
        return self._renewed(state.variables, seed) if steps else state.variables

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
