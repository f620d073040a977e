"""The training loop: data on the device, many steps per call, nothing on the host in between.

Shuffling, views and normalising run inside jit; the host only counts steps and shows progress.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from rich.progress import Progress

from experiments.common.accumulating import accumulated, split_problem
from experiments.common.data import Dataset, preprocess
from experiments.common.steps import (
    Epochs,
    Images,
    Keys,
    ViewOf,
    compile_steps,
    current_epoch,
    make_body,
)
from experiments.common.stopping import keeping
from experiments.common.timing import Stopwatch
from jaxcompress import parallel
from jaxcompress.annotations import Json, PyTree
from jaxcompress.graph import Trainable
from jaxcompress.knowledge.drawing import Views
from jaxcompress.training import Loss, TrainState, init_state, train_step

__all__ = ["Trained", "ViewOf", "train"]


class Trained(NamedTuple):
    """What training returns.

    Attributes:
        state: the last training state; `state.variables` is the network.
        history: per epoch, `epoch`, `seconds`, the mean of each metric over those of its steps
            that were run here as `train_<metric>`, and what `on_epoch` returned.
    """

    state: TrainState
    history: list[dict[str, float]]


def train(
    loss: Loss,
    tx: optax.GradientTransformation,
    variables: PyTree,
    dataset: Dataset,
    *,
    epochs: int,
    batch_size: int,
    key: jax.Array,
    mesh: Mesh,
    views: Views | None = None,
    view_key: jax.Array | None = None,
    view_of: ViewOf | None = None,
    extra: dict[str, Json] | None = None,
    trainable: Trainable | None = None,
    folder: Path | None = None,
    on_epoch: Callable[[TrainState], dict[str, float]] | None = None,
    accumulate_steps: int = 1,
    progress: bool = True,
) -> Trained:
    """Train on a data set that fits on the device.

    `loss(variables, batch, key) -> (scalar, (new_state, metrics))` gets as `batch` a dict of
    `image` (normalised float32), `label`, `example` and `view` (numbers `int32[batch]`), and the
    rows of each array in `extra`.

    Args:
        loss: see above and `jaxcompress.training.train_step`.
        tx: any optax optimizer.
        variables: where to start.
        dataset: its training images, normalised by its `mean` and `std`.
        epochs: passes over the data; the last examples of a shuffled epoch that do not fill a
            batch are left out.
        batch_size: images per update; must divide by the number of devices.
        key: all randomness of the run.
        mesh: the devices.
        views: augment by a view of each example, see `view_of`; None: the images as they are.
        view_key: the key of the views, where stored knowledge was drawn with one.
        view_of: `view_of(examples, epoch) -> int[batch]`, which view of each example an epoch
            shows, e.g. one of those that a teacher has seen; None: the `epoch`-th.
        extra: arrays `[n, ...]`, one row per training example, e.g. stored logits.
        trainable: what is optimized, see `jaxcompress.training.train_step`.
        folder: where the state is kept, every so often, at each epoch's end and when the process
            is asked to stop, and where a run that was killed goes on; None: nowhere.
        on_epoch: what to measure after each epoch, for the history.
        accumulate_steps: steps of an update, each with an equal part of its batch, whose gradients
            are averaged: `optax.MultiSteps`. The state counts steps, schedules of `tx` updates.
        progress: show a progress bar.

    Raises:
        ValueError: if the batch size does not divide by the devices, or `extra` has not one row
            per training example or repeats a name of the batch.
        FloatingPointError: if a metric is NaN or infinite, naming it and the first such step.
    """
    _check(dataset, batch_size, accumulate_steps, mesh, extra or {})
    tx = accumulated(tx, accumulate_steps)
    state = init_state(variables, tx, trainable=trainable)
    # A copy, because the loop donates its state and the caller may still want the variables.
    state = parallel.replicate(_copied(state), mesh)
    images = Images(preprocess(dataset), views, view_of or current_epoch)
    body = make_body(train_step(loss, tx, trainable=trainable), images, mesh)
    data = _device_data(dataset, extra or {}, mesh)
    run = Epochs(body, compile_steps(body, mesh), data, batch_size, accumulate_steps, mesh)
    keys = parallel.replicate(_keys(key, view_key), mesh)

    history: list[dict[str, float]] = []
    with keeping(folder) as kept, Progress(transient=True, disable=not progress) as bar:
        state = kept.restored(state)
        first, more = divmod(int(state.step), run.steps)
        task = bar.add_task("training", total=(epochs - first) * run.steps - more)
        for epoch in range(first, epochs):
            watch = Stopwatch()
            state, means = run.epoch(state, epoch, keys, partial(bar.update, task), kept.at_times)
            kept.now(state)
            seconds = watch.seconds
            measured = on_epoch(state) if on_epoch else {}
            history.append({"epoch": epoch + 1, "seconds": seconds, **means, **measured})
    return Trained(state, history)


@jax.jit
def _copied(tree: PyTree) -> PyTree:
    """Copy every leaf, all by one program."""
    return jax.tree.map(jnp.copy, tree)


def _check(
    dataset: Dataset, batch_size: int, parts: int, mesh: Mesh, extra: dict[str, Json]
) -> None:
    problem = split_problem(batch_size, parts, mesh.size)
    if problem:
        raise ValueError(problem)
    taken = sorted(extra.keys() & {"image", "label", "example", "view"})
    if taken:
        raise ValueError(
            f"extra arrays have names of their own, but a batch has {taken}; rename them"
        )
    size = len(dataset.train_images)
    wrong = {name: len(array) for name, array in extra.items() if len(array) != size}
    if wrong:
        raise ValueError(
            f"extra arrays have one row for each of the {size} training images, but these have "
            f"another number: {wrong}; store them for the same split"
        )


def _keys(key: jax.Array, view_key: jax.Array | None) -> Keys:
    shuffle, view, loss = (jax.random.fold_in(key, number) for number in range(3))
    return Keys(shuffle, view if view_key is None else view_key, loss)


def _device_data(dataset: Dataset, extra: dict[str, Json], mesh: Mesh) -> dict[str, Json]:
    """Copy the training data to every device: a shuffled batch takes examples from anywhere."""
    data = {"image": dataset.train_images, "label": dataset.train_labels, **extra}
    return parallel.replicate(data, mesh)
