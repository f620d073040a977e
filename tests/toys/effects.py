"""Toys of operations beside the channels: transforms over time, experts, prints, draws, devices."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import io_callback
from jax.sharding import PartitionSpec

from tests.toys.leaves import PERCEPTRON, ROWS, WIDTHS
from tests.toys.record import Toy, draw, rows

__all__ = ["TOYS"]

SEQUENCES = rows(3, 6, 4, seed=5)


def fourier() -> Toy:
    """FNet: a transform over time leaves the channels alone, one over channels does not."""
    shapes = {"first": (4, 6), "second": (6, 5), "third": (5, 4), "head": (4, 2)}

    def apply(variables: Any, sequences: jax.Array) -> jax.Array:
        hidden = jnp.fft.fft(jnp.tanh(sequences @ variables["first"]), axis=1).real
        hidden = jnp.fft.irfft(jnp.fft.rfft(hidden @ variables["second"], axis=1) / 2, axis=1)
        hidden = jnp.abs(jnp.fft.fft(jnp.tanh(hidden) @ variables["third"], axis=-1))
        return hidden.mean(1) @ variables["head"]

    return Toy(apply, draw(41, shapes), (SEQUENCES,), WIDTHS, frozen="Fourier transform")


def experts() -> Toy:
    """Experts, each for some of the rows, in one ragged dot: all lose the same channels."""
    shapes = {"first": (2, 4, 6), "second": (2, 6, 5), "head": (5, 2)}
    sizes = jnp.array([1, 2], jnp.int32)

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(lax.ragged_dot(inputs, variables["first"], sizes))
        return jnp.tanh(lax.ragged_dot(hidden, variables["second"], sizes)) @ variables["head"]

    groups = {"first[2]": 6, "second[2]": 5}
    reason = "the sizes of groups"
    return Toy(apply, draw(42, shapes), (ROWS,), groups, frozen=reason, independent=False)


def watched() -> Toy:
    """Prints and callbacks see what is left of the channels; what the host answers is unknown."""
    shapes = {**PERCEPTRON, "asked": (4, 3), "told": (4, 3), "answer": (3, 2)}

    def seen(hidden: jax.Array) -> jax.Array:
        jax.debug.callback(lambda hidden: None, hidden)
        io_callback(lambda hidden: None, None, lax.stop_gradient(hidden))
        return hidden

    def asked(hidden: jax.Array) -> jax.Array:
        shape = jax.ShapeDtypeStruct(hidden.shape, hidden.dtype)
        return jax.pure_callback(lambda hidden: 2 * hidden, shape, lax.stop_gradient(hidden))

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = seen(jnp.tanh(inputs @ variables["first"] + variables["first_bias"]))
        hidden = seen(jnp.tanh(hidden @ variables["second"]))
        answer = asked(inputs @ variables["asked"]) + inputs @ variables["told"]
        return hidden @ variables["third"] + answer @ variables["answer"]

    reason = "fixed size: the primitive 'pure_callback' has no rule"
    return Toy(apply, draw(43, shapes), (ROWS,), WIDTHS, frozen=reason)


def drawn_from_parameters() -> Toy:
    """Each channel's noise has its own shape: what is drawn for it must not depend on others."""
    shapes = {**PERCEPTRON, "noise": (6,)}

    def apply(variables: Any, inputs: jax.Array, key: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["first"] + variables["first_bias"])
        noise = jax.random.gamma(key, 1.0 + jnp.square(hidden * variables["noise"]))
        return jnp.tanh((hidden * noise) @ variables["second"]) @ variables["third"]

    inputs = (ROWS, jax.random.key(3))
    variables = draw(44, shapes)
    return Toy(apply, variables, inputs, WIDTHS, independent=False, symmetric=False)


def equinox_loop() -> Toy:
    """Equinox' own loop, which writes its steps into a buffer."""
    shapes = {"first": (4, 6), "mix": (6, 6), "head": (6, 2)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        def step(state: Any) -> Any:
            count, hidden, buffer = state
            hidden = jnp.tanh(hidden @ variables["mix"])
            return count + 1, hidden, buffer.at[count].set(hidden)

        start = jnp.tanh(inputs @ variables["first"])
        state = (jnp.int32(0), start, jnp.zeros((2, *start.shape)))
        *_, buffer = eqx.internal.while_loop(
            lambda state: state[0] < 2,
            step,
            state,
            max_steps=2,
            buffers=lambda state: state[2],
            kind="lax",
        )
        return (buffer[0] + buffer[1]) @ variables["head"]

    return Toy(apply, draw(45, shapes), (ROWS,), {"first[1]": 6}, differentiable=False)


def mapped_over_devices() -> Toy:
    """A program for devices inside the network: what it splits stays, what it holds whole goes."""
    mesh = jax.make_mesh((1,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    whole, split = PartitionSpec(), PartitionSpec("devices")

    def block(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["first"] + variables["first_bias"])
        hidden = jnp.tanh(hidden @ variables["second"])
        return hidden / lax.psum(jnp.ones(()), "devices")

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        mapped = jax.shard_map(block, mesh=mesh, in_specs=(whole, split), out_specs=split)
        return mapped(variables, inputs) @ variables["third"]

    return Toy(apply, draw(46, PERCEPTRON), (ROWS,), WIDTHS)


TOYS = (fourier, experts, watched, drawn_from_parameters, equinox_loop, mapped_over_devices)
