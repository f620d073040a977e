"""The steps of one epoch: batches made on the device, metrics summed and watched there.

The host waits for the device only to report, and stops where a metric was NaN or infinite.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from experiments.common.data import Normalize, epoch_indices
from jaxcompress import parallel
from jaxcompress.annotations import Array, PyTree
from jaxcompress.backend import fast_convolutions
from jaxcompress.knowledge.drawing import Views
from jaxcompress.knowledge.drawing import views as draw_views
from jaxcompress.training import Step, TrainState

__all__ = ["Epochs", "Images", "Keys", "ViewOf", "compile_steps", "current_epoch", "make_body"]

STEPS_PER_CALL = 50
STEPS_PER_LOOK = 10
"""Where steps are calls of their own: looking costs no more than waiting for ten of them."""

ViewOf: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""`view_of(examples, epoch) -> int[batch]`."""


class Keys(NamedTuple):
    """Independent streams: what is drawn for one never changes another."""

    shuffle: jax.Array
    view: jax.Array
    loss: jax.Array


class Carry(NamedTuple):
    """What one step hands to the next.

    Attributes:
        state: the training state.
        totals: of the metrics so far.
        bad: by metric, the first step that made it NaN or infinite, counted from 1; else 0.
    """

    state: TrainState
    totals: Any
    bad: Any


class Images(NamedTuple):
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


def current_epoch(examples: jax.Array, epoch: jax.Array) -> jax.Array:
    """Show the epoch-th view of each example."""
    return jnp.full_like(examples, epoch)


def make_body(step: Step, images: Images, mesh: Mesh) -> Callable[..., Carry]:
    """One step, adding its metrics to their totals."""

    def body(
        index: Any, carry: Carry, data: Any, indices: jax.Array, epoch: Any, keys: Keys
    ) -> Carry:
        sharding = parallel.batch_sharding(mesh)
        examples = jax.lax.with_sharding_constraint(indices[index], sharding)
        batch = images(data, examples, epoch, keys.view)
        state, metrics = step(carry.state, batch, jax.random.fold_in(keys.loss, carry.state.step))
        # Without totals (None) this only tells, under jax.eval_shape, which metrics there are.
        if carry.totals is None:
            return Carry(state, metrics, None)
        totals = jax.tree.map(jnp.add, carry.totals, metrics)
        bad = jax.tree.map(partial(_first_bad, state.step), carry.bad, metrics)
        return Carry(state, totals, bad)

    return body


def _first_bad(step: jax.Array, bad: jax.Array, metric: jax.Array) -> jax.Array:
    return jnp.where((bad == 0) & ~jnp.isfinite(metric).all(), step, bad)


def _check_finite(bad: dict[str, jax.Array], epoch: int) -> None:
    """Stop at what no later step mends."""
    steps = {name: int(step) for name, step in jax.device_get(bad).items() if step}
    if steps:
        named = ", ".join(
            f"{name} at step {steps[name]}" for name in sorted(steps, key=steps.__getitem__)
        )
        raise FloatingPointError(
            f"training goes on while its metrics are finite, but in epoch {epoch + 1} these first "
            f"became NaN or infinite: {named}; look at the data and the variables, or lower the "
            "learning rate and continue from an earlier state"
        )


def on_cpu(mesh: Mesh) -> bool:
    """Whether the mesh is made of the CPU."""
    return mesh.devices.flat[0].platform == "cpu"


def compile_steps(body: Callable[..., Carry], mesh: Mesh) -> Callable[..., Carry]:
    """Compile `run(start, stop, carry, *rest)`, the steps from start to stop.

    Elsewhere than on the CPU they are one call, whose number of steps is traced, so that calls of
    any length share a program. XLA's CPU compiler leaves the gradients of convolutions inside a
    loop unoptimised (measured 70 times slower; https://github.com/jax-ml/jax/issues/12868), so
    there each step is a call of its own, still without waiting for it. On one device, its
    convolutions run on oneDNN.
    """
    whole = parallel.replicated(mesh)

    if on_cpu(mesh):
        step = fast_convolutions(body) if mesh.size == 1 else body
        one = jax.jit(step, donate_argnums=1, out_shardings=whole)

        def run(start: int, stop: int, carry: Carry, *rest: PyTree) -> Carry:
            for index in range(start, stop):
                carry = one(index, carry, *rest)
            return carry

        return run

    def loop(start: Any, stop: Any, carry: Carry, *rest: PyTree) -> Carry:
        return jax.lax.fori_loop(start, stop, lambda i, carry: body(i, carry, *rest), carry)

    return jax.jit(loop, donate_argnums=2, out_shardings=whole)


class Epochs(NamedTuple):
    """The compiled steps with the data they run on."""

    body: Callable[..., Carry]
    run: Callable[..., Carry]
    data: dict[str, Array]
    batch_size: int
    accumulate_steps: int
    mesh: Mesh

    @property
    def steps(self) -> int:
        """Steps per epoch, each of a part of a batch."""
        return len(self.data["label"]) // self.batch_size * self.accumulate_steps

    def epoch(
        self,
        state: TrainState,
        epoch: int,
        keys: Keys,
        report: Callable[..., Any],
        on_steps: Callable[[TrainState], None],
    ) -> tuple[TrainState, dict[str, float]]:
        """Run what is left of one epoch, waiting for the device only to report.

        Returns:
            The state, and the mean of each metric over the steps that were run here.
        """
        indices = _shuffle(keys.shuffle, epoch, len(self.data["label"]), self.batch_size)
        indices = indices.reshape(self.steps, -1)
        rest = (self.data, indices, epoch, keys)
        shapes = jax.eval_shape(self.body, 0, Carry(state, None, None), *rest).totals
        totals = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        zeros = totals, jax.tree.map(lambda _: jnp.int32(0), shapes)
        # Laid out as the step returns them: what lies elsewhere would be another program.
        carry = Carry(state, *parallel.replicate(zeros, self.mesh))
        first = int(state.step) - epoch * self.steps
        at_once = STEPS_PER_LOOK if on_cpu(self.mesh) else STEPS_PER_CALL
        for start in range(first, self.steps, at_once):
            stop = min(start + at_once, self.steps)
            carry = self.run(start, stop, carry, *rest)
            _check_finite(carry.bad, epoch)
            loss = float(carry.totals["loss"]) / (stop - first)
            report(advance=stop - start, description=f"epoch {epoch + 1}, mean loss {loss:.3f}")
            on_steps(carry.state)
        count = self.steps - first
        return carry.state, {f"train_{name}": float(x) / count for name, x in carry.totals.items()}


_shuffle = jax.jit(epoch_indices, static_argnames=("size", "batch_size"))
