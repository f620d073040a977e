"""Toys about how leaves are used, derivative rules of the user, and what must stay frozen."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from jax import lax

from tests.toys.record import Toy, draw, initial, randomised, rows

__all__ = ["TOYS"]

ROWS = rows(3, 4)
PERCEPTRON = {"first": (4, 6), "first_bias": (6,), "second": (6, 5), "third": (5, 2)}
WIDTHS = {"first[1]": 6, "second[1]": 5}


def perceptron(activation: Any, seed: int, **claims: Any) -> Toy:
    """Three dense layers with one activation."""

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = activation(inputs @ variables["first"] + variables["first_bias"])
        return activation(hidden @ variables["second"]) @ variables["third"]

    return Toy(apply, draw(seed, PERCEPTRON), (ROWS,), WIDTHS, **claims)


def dropout() -> Toy:
    """Dropout draws one bit per channel: the bits must not depend on the keep."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
            hidden = nn.relu(nn.Dense(6)(inputs))
            hidden = nn.Dropout(0.4, deterministic=not train)(hidden)
            hidden = nn.BatchNorm(use_running_average=not train)(nn.Dense(5)(hidden))
            return nn.Dense(2)(nn.Dropout(0.4, deterministic=not train)(nn.relu(hidden)))

    module = Network()
    variables = initial(module, ROWS, train=False)

    def train_apply(variables: Any, inputs: jax.Array, key: jax.Array) -> Any:
        rngs = {"dropout": key}
        return module.apply(variables, inputs, train=True, mutable=["batch_stats"], rngs=rngs)

    def apply(variables: Any, inputs: jax.Array, key: jax.Array) -> Any:
        return module.apply(variables, inputs, train=False)

    groups = {"params/Dense_0/kernel[1]": 6, "params/Dense_1/kernel[1]": 5}
    return Toy(apply, variables, (ROWS, jax.random.key(5)), groups, train_apply)


def weight_sharing() -> Toy:
    """The same kernel twice: input and output channels become one group."""
    shapes = {"embed": (4, 6), "shared": (6, 6), "bias": (6,), "head": (6, 2)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["embed"])
        for _ in range(2):
            hidden = jnp.tanh(hidden @ variables["shared"] + variables["bias"])
        return hidden @ variables["head"]

    return Toy(apply, draw(1, shapes), (ROWS,), {"embed[1]": 6})


def tied_autoencoder() -> Toy:
    """A decoder that is the encoder transposed."""
    shapes = {"encode": (4, 6), "bias": (6,)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        return jax.nn.relu(inputs @ variables["encode"] + variables["bias"]) @ variables["encode"].T

    return Toy(apply, draw(2, shapes), (ROWS,), {"encode[1]": 6})


def bfloat16() -> Toy:
    """Computed in bfloat16 from float32 leaves."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, inputs: jax.Array) -> jax.Array:
            hidden = nn.gelu(nn.Dense(6, dtype=jnp.bfloat16)(inputs))
            hidden = nn.relu(nn.Dense(5, dtype=jnp.bfloat16)(hidden))
            return nn.Dense(2, dtype=jnp.bfloat16)(hidden).astype(jnp.float32)

    module = Network()
    variables = initial(module, ROWS)
    groups = {"params/Dense_0/kernel[1]": 6, "params/Dense_1/kernel[1]": 5}
    return Toy(module.apply, variables, (ROWS,), groups, tolerance=2e-2)


def closed_constant() -> Toy:
    """A constant array with one entry per channel is cut like a leaf."""
    scale, table = jnp.linspace(0.5, 2.0, 6), jnp.arange(30.0).reshape(6, 5) / 30

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jax.nn.relu(inputs @ variables["first"] + variables["first_bias"]) * scale
        hidden = jax.nn.relu(hidden @ (variables["second"] * table))
        return hidden @ variables["third"]

    return Toy(apply, draw(3, PERCEPTRON), (ROWS,), WIDTHS, symmetric=False)


def kernel_left() -> Toy:
    """einsum with the kernel as the left operand, outputs first."""
    shapes = {"first": (6, 4), "second": (2, 3, 6), "head": (2, 3, 2)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(jnp.einsum("oi,bi->ob", variables["first"], inputs))
        hidden = jnp.tanh(jnp.einsum("jki,ib->bjk", variables["second"], hidden))
        return jnp.einsum("jko,bjk->bo", variables["head"], hidden)

    return Toy(apply, draw(4, shapes), (ROWS,), {"first[0]": 6, "second[0]": 2, "second[1]": 3})


def low_rank() -> Toy:
    """The kernel is a product of two leaves, so its rank is a group too."""
    shapes = {"down": (4, 3), "up": (3, 6), "head": (6, 2)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jax.nn.relu(inputs @ (variables["down"] @ variables["up"]))
        return hidden @ variables["head"]

    return Toy(apply, draw(5, shapes), (ROWS,), {"down[1]": 3, "up[1]": 6}, shared=("down[1]",))


def user_jvp() -> Toy:
    """An activation whose derivative the user chose: 1 at the kink, 0.25 on the left."""

    @jax.custom_jvp
    def activation(hidden: jax.Array) -> jax.Array:
        return jnp.maximum(hidden, 0.0)

    @activation.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (hidden,), (tangent,) = primals, tangents
        return activation(hidden), jnp.where(hidden >= 0, 1.0, 0.25) * tangent

    return perceptron(activation, 6)


def straight_through() -> Toy:
    """Rounding that lets gradients pass: differentiated as it stands they would all be 0."""

    @jax.custom_vjp
    def rounded(hidden: jax.Array) -> jax.Array:
        return jnp.round(4 * hidden) / 4

    rounded.defvjp(lambda hidden: (rounded(hidden), hidden > 0), lambda up, ct: (ct * (1.0 + up),))
    return perceptron(rounded, 7)


def gradient_inside() -> Toy:
    """A custom derivative around a contraction: the inner channels stay, the outer may go."""

    @jax.custom_vjp
    def mix(hidden: jax.Array, kernel: jax.Array) -> jax.Array:
        return hidden @ kernel

    def backward(saved: Any, cotangent: jax.Array) -> Any:
        hidden, kernel = saved
        return 2 * cotangent @ kernel.T, hidden.T @ cotangent

    mix.defvjp(lambda hidden, kernel: (hidden @ kernel, (hidden, kernel)), backward)

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["first"] + variables["first_bias"])
        return jnp.tanh(mix(hidden, variables["second"])) @ variables["third"]

    return Toy(apply, draw(8, PERCEPTRON), (ROWS,), {"second[1]": 5}, frozen="custom derivative")


def rematerialised() -> Toy:
    """jax.checkpoint with a policy, nested."""
    shapes = {"first": (4, 6), "second": (6, 5), "third": (5, 2)}

    @partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_saveable)
    def block(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jax.nn.relu(inputs @ variables["first"])
        return jax.checkpoint(jnp.tanh)(hidden @ variables["second"])

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        return block(variables, inputs) @ variables["third"]

    return Toy(apply, draw(9, shapes), (ROWS,), WIDTHS)


def linen_remat() -> Toy:
    """nn.remat around a block with BatchNorm."""

    class Block(nn.Module):
        @nn.compact
        def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
            return nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Dense(6)(inputs)))

    class Network(nn.Module):
        @nn.compact
        def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
            return nn.Dense(2)(nn.remat(Block, static_argnums=(2,))()(inputs, train))

    module = Network()
    variables = initial(module, ROWS, train=False)

    def train_apply(variables: Any, inputs: jax.Array) -> Any:
        return module.apply(variables, inputs, train=True, mutable=["batch_stats"])

    apply = partial(module.apply, train=False)
    return Toy(
        apply, variables, (ROWS,), {"params/CheckpointBlock_0/Dense_0/kernel[1]": 6}, train_apply
    )


def nnx_model() -> Toy:
    """An NNX model: nnx.split gives a state of parameters and statistics."""

    class Network(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.first = nnx.Linear(4, 6, rngs=rngs)
            self.norm = nnx.BatchNorm(6, rngs=rngs)
            self.second = nnx.Linear(6, 2, rngs=rngs)

        def __call__(self, inputs: jax.Array) -> jax.Array:
            return self.second(nnx.relu(self.norm(self.first(inputs))))

    model = Network(nnx.Rngs(0))
    definition, state = nnx.split(model)

    def run(variables: Any, inputs: jax.Array, train: bool) -> Any:
        network = nnx.merge(definition, variables)
        network.train() if train else network.eval()
        output = network(inputs)
        return output, nnx.split(network)[1]

    def apply(variables: Any, inputs: jax.Array) -> Any:
        return run(variables, inputs, False)[0]

    train_apply = partial(run, train=True)
    return Toy(apply, randomised(state), (ROWS,), {"first/kernel[1]": 6}, train_apply)


def equinox_model() -> Toy:
    """An Equinox model: eqx.partition gives its arrays; vmap makes the batch."""
    keys = jax.random.split(jax.random.key(0), 2)
    model = eqx.nn.Sequential(
        [
            eqx.nn.Linear(4, 6, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.MLP(6, 2, width_size=5, depth=1, key=keys[1]),
        ]
    )
    arrays, static = eqx.partition(model, eqx.is_array)

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        return jax.vmap(eqx.combine(variables, static))(inputs)

    groups = {"layers/0/weight[0]": 6, "layers/2/layers/0/weight[0]": 5}
    return Toy(apply, arrays, (ROWS,), groups)


def unknown_primitives() -> Toy:
    """A callback, cumsum, sort and fft each freeze the channels they touch, with the reason."""
    names = ("callback", "cumsum", "sort", "fft", "free")
    shapes = {name: (4, 4) for name in names} | {f"{name}_out": (4, 2) for name in names}

    def called(hidden: jax.Array) -> jax.Array:
        shape = jax.ShapeDtypeStruct(hidden.shape, hidden.dtype)
        return jax.pure_callback(lambda array: array * 2, shape, hidden)

    functions = {
        "callback": lambda hidden: called(lax.stop_gradient(hidden)),
        "cumsum": lambda hidden: jnp.cumsum(hidden, axis=-1),
        "sort": lambda hidden: jnp.sort(hidden, axis=-1),
        "fft": lambda hidden: jnp.abs(jnp.fft.fft(hidden, axis=-1)),
        "free": jnp.tanh,
    }

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        parts = [
            functions[name](inputs @ variables[name]) @ variables[f"{name}_out"] for name in names
        ]
        return sum(parts[1:], parts[0])

    return Toy(apply, draw(10, shapes), (ROWS,), {"free[1]": 4}, frozen="pure_callback")


def normalised() -> Toy:
    """LayerNorm and a softmax over channels, BatchNorm over inputs: none of them freezes any."""
    shapes = {"first": (4, 6), "second": (6, 5), "third": (5, 4), "head": (4, 2)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jax.nn.standardize(inputs @ variables["first"], axis=-1)
        hidden = jax.nn.softmax(hidden @ variables["second"])
        hidden = jax.nn.standardize(hidden @ variables["third"], axis=0)
        return hidden @ variables["head"]

    groups = {"first[1]": 6, "second[1]": 5, "third[1]": 4}
    return Toy(apply, draw(11, shapes), (ROWS,), groups, independent=False)


def pieces() -> Toy:
    """Stack, tile, reverse, roll, pad, where and outer products of channels."""
    shapes = {"first": (4, 6), "second": (12, 4), "third": (4, 3), "head": (12, 2)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["first"])
        hidden = jnp.roll(jnp.flip(jnp.tile(hidden, 2), axis=-1), 2, axis=-1)
        hidden = jnp.where(hidden > 0, hidden, 0.1 * hidden)
        left = jnp.pad(hidden @ variables["second"], ((0, 0), (0, 0)), constant_values=1.0)
        right = inputs @ variables["third"]
        outer = (left[:, :, None] * right[:, None, :]).reshape(inputs.shape[0], 12)
        return jnp.stack([outer, outer]).mean(0) @ variables["head"]

    return Toy(apply, draw(12, shapes), (ROWS,), {"first[1]": 6, "second[1]": 4})


TOYS = (
    dropout,
    weight_sharing,
    tied_autoencoder,
    bfloat16,
    closed_constant,
    kernel_left,
    low_rank,
    user_jvp,
    straight_through,
    gradient_inside,
    rematerialised,
    linen_remat,
    nnx_model,
    equinox_model,
    unknown_primitives,
    normalised,
    pieces,
)
