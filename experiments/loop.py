"""The training loop: data on the device, many steps per call, nothing on the host in between.

Shuffling, views and normalising run inside jit; the host only counts steps and shows progress.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from rich.progress import Progress

from experiments.data import Dataset, Normalize, epoch_indices, preprocess
from jaxcompress import parallel
from jaxcompress.knowledge.views import Views
from jaxcompress.knowledge.views import views as draw_views
from jaxcompress.training import (
    Loss,
    Step,
    Trainable,
    TrainState,
    fast_convolutions,
    init_state,
    train_step,
)

__all__ = ["Trained", "ViewOf", "train"]

STEPS_PER_CALL = 50

ViewOf: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""`view_of(examples, epoch) -> int[batch]`."""


class Keys(NamedTuple):
    """Independent streams: what is drawn for one never changes another."""

    shuffle: jax.Array
    view: jax.Array
    loss: jax.Array


class Carry(NamedTuple):
    """What one step hands to the next: the state, and the sums of the metrics so far."""

    state: TrainState
    totals: Any


class Trained(NamedTuple):
    """What training returns.

    Attributes:
        state: the last training state; `state.variables` is the network.
        history: per epoch, `epoch`, `seconds`, the mean of each metric over its steps as
            `train_<metric>`, and what `on_epoch` returned.
    """

    state: TrainState
    history: list[dict[str, float]]


def train(
    loss: Loss,
    tx: optax.GradientTransformation,
    variables: Any,
    dataset: Dataset,
    *,
    epochs: int,
    batch_size: int,
    key: jax.Array,
    mesh: Mesh,
    views: Views | None = None,
    view_key: jax.Array | None = None,
    view_of: ViewOf | None = None,
    extra: dict[str, Any] | None = None,
    trainable: Trainable | None = None,
    state: TrainState | None = None,
    on_epoch: Callable[[TrainState], dict[str, float]] | None = None,
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
        batch_size: must divide by the number of devices.
        key: all randomness of the run.
        mesh: the devices.
        views: augment by a view of each example, see `view_of`; None: the images as they are.
        view_key: the key of the views, where stored knowledge was drawn with one.
        view_of: `view_of(examples, epoch) -> int[batch]`, which view of each example an epoch
            shows, e.g. one of those that a teacher has seen; None: the `epoch`-th.
        extra: arrays `[n, ...]`, one row per training example, e.g. stored logits.
        trainable: what is optimized, see `jaxcompress.training.train_step`.
        state: continue from this state, of the same run, at an epoch's start.
        on_epoch: what to measure after each epoch, for the history.
        progress: show a progress bar.

    Raises:
        ValueError: if the batch size does not divide by the devices, or `extra` has not one row
            per training example or repeats a name of the batch.
    """
    _check(dataset, batch_size, mesh, extra or {})
    # A copy, because the loop donates its state and the caller may still want the variables.
    state = jax.tree.map(jnp.copy, state or init_state(variables, tx, trainable=trainable))
    state = parallel.replicate(state, mesh)
    images = _Images(preprocess(dataset), views, view_of or _epoch)
    body = _body(train_step(loss, tx, trainable=trainable), images, mesh)
    data = _device_data(dataset, extra or {}, mesh)
    run = _Epochs(body, _compile(body, mesh), data, batch_size)
    keys = _keys(key, view_key)

    history: list[dict[str, float]] = []
    first = int(state.step) // run.steps
    with Progress(transient=True, disable=not progress) as bar:
        task = bar.add_task("training", total=(epochs - first) * run.steps)
        for epoch in range(first, epochs):
            started = time.perf_counter()
            state, means = run.epoch(state, epoch, keys, partial(bar.update, task))
            seconds = time.perf_counter() - started
            measured = on_epoch(state) if on_epoch else {}
            history.append({"epoch": epoch + 1, "seconds": seconds, **means, **measured})
    return Trained(state, history)


def _check(dataset: Dataset, batch_size: int, mesh: Mesh, extra: dict[str, Any]) -> None:
    if batch_size % mesh.size:
        raise ValueError(
            f"a batch is split over all devices, but batch_size={batch_size} does not divide by "
            f"{mesh.size} devices; take a multiple of {mesh.size}"
        )
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


def _device_data(dataset: Dataset, extra: dict[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Copy the training data to every device: a shuffled batch takes examples from anywhere."""
    data = {"image": dataset.train_images, "label": dataset.train_labels, **extra}
    return parallel.replicate(data, mesh)


class _Images(NamedTuple):
    """How stored images become the network's input."""

    normalize: Normalize
    settings: Views | None
    view_of: ViewOf

    def __call__(self, data: Any, examples: jax.Array, epoch: jax.Array, key: jax.Array) -> Any:
        """Assemble the batch of these examples."""
        batch = jax.tree.map(lambda array: array[examples], data)
        view = self.view_of(examples, epoch)
        if self.settings is not None:
            batch["image"] = draw_views(key, examples, view, batch["image"], settings=self.settings)
        batch["image"] = self.normalize(batch["image"])
        return {**batch, "example": examples, "view": view}


def _epoch(examples: jax.Array, epoch: jax.Array) -> jax.Array:
    return jnp.full_like(examples, epoch)


def _body(step: Step, images: _Images, mesh: Mesh) -> Callable[..., Carry]:
    """One step, adding its metrics to their totals."""

    def body(
        index: Any, carry: Carry, data: Any, indices: jax.Array, epoch: Any, keys: Keys
    ) -> Carry:
        sharding = parallel.batch_sharding(mesh)
        examples = jax.lax.with_sharding_constraint(indices[index], sharding)
        batch = images(data, examples, epoch, keys.view)
        state, metrics = step(carry.state, batch, jax.random.fold_in(keys.loss, carry.state.step))
        # Without totals (None) this only tells, under jax.eval_shape, which metrics there are.
        totals = metrics if carry.totals is None else jax.tree.map(jnp.add, carry.totals, metrics)
        return Carry(state, totals)

    return body


def on_cpu(mesh: Mesh) -> bool:
    """Whether the mesh is made of the CPU."""
    return mesh.devices.flat[0].platform == "cpu"


def _compile(body: Callable[..., Carry], mesh: Mesh) -> Callable[..., Carry]:
    """Compile `run(start, stop, carry, *rest)`, the steps from start to stop.

    Elsewhere than on the CPU they are one call, whose number of steps is traced, so that calls of
    any length share a program. XLA's CPU compiler leaves the gradients of convolutions inside a
    loop unoptimised (measured 70 times slower; https://github.com/jax-ml/jax/issues/12868), so
    there each step is a call of its own, still without waiting for it. On one device, its
    convolutions run on oneDNN.
    """
    whole = parallel.replicated(mesh)

    if on_cpu(mesh):
        own = fast_convolutions(body) if mesh.size == 1 else body
        one = jax.jit(own, donate_argnums=1, out_shardings=whole)

        def run(start: int, stop: int, carry: Carry, *rest: Any) -> Carry:
            for index in range(start, stop):
                carry = one(index, carry, *rest)
            return carry

        return run

    def loop(start: Any, stop: Any, carry: Carry, *rest: Any) -> Carry:
        return jax.lax.fori_loop(start, stop, lambda i, carry: body(i, carry, *rest), carry)

    return jax.jit(loop, donate_argnums=2, out_shardings=whole)


class _Epochs(NamedTuple):
    """The compiled steps with the data they run on."""

    body: Callable[..., Carry]
    run: Callable[..., Carry]
    data: dict[str, Any]
    batch_size: int

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return len(self.data["label"]) // self.batch_size

    def epoch(
        self, state: TrainState, epoch: int, keys: Keys, report: Callable[..., Any]
    ) -> tuple[TrainState, dict[str, float]]:
        """Run one epoch, waiting for the device only to report; return the metrics' means."""
        indices = _shuffle(keys.shuffle, epoch, len(self.data["label"]), self.batch_size)
        rest = (self.data, indices, epoch, keys)
        shapes = jax.eval_shape(self.body, 0, Carry(state, None), *rest).totals
        carry = Carry(state, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
        for start in range(0, self.steps, STEPS_PER_CALL):
            stop = min(start + STEPS_PER_CALL, self.steps)
            carry = self.run(start, stop, carry, *rest)
            loss = float(carry.totals["loss"]) / stop
            report(advance=stop - start, description=f"epoch {epoch + 1}, mean loss {loss:.3f}")
        means = {f"train_{name}": float(x) / self.steps for name, x in carry.totals.items()}
        return carry.state, means


_shuffle = jax.jit(epoch_indices, static_argnames=("size", "batch_size"))
