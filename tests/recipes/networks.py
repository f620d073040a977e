"""Networks that are not shipped, trained a little on data that any of them can learn."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

__all__ = ["Case", "attention", "depthwise", "perceptron"]


class Case(NamedTuple):
    """A trained network and its data.

    Attributes:
        apply: evaluation mode.
        train_apply: training mode, `(variables, x) -> (logits, state)`; None if alike.
        variables: trained.
        batches: `{"image", "label"}`.
        test: the same, in one.
    """

    apply: Callable[..., Any]
    train_apply: Callable[..., Any] | None
    variables: Any
    batches: list[dict[str, Any]]
    test: dict[str, Any]

    def loss(self, variables: Any, batch: Any) -> jax.Array:
        """Cross-entropy, in training mode where there is one."""
        logits = self.outputs(variables, batch["image"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    def outputs(self, variables: Any, images: Any) -> Any:
        """Return logits, in training mode where there is one."""
        if self.train_apply is None:
            return self.apply(variables, images)
        return self.train_apply(variables, images)[0]


CLASSES = 5


def _data(shape: tuple[int, ...], seed: int, count: int) -> dict[str, Any]:
    """Draw noisy copies of one pattern a class."""
    random = np.random.default_rng(seed)
    patterns = np.random.default_rng(9).normal(size=(CLASSES, *shape))
    label = random.integers(0, CLASSES, count)
    image = patterns[label] + random.normal(size=(count, *shape)) * 1.2
    return {"image": image.astype(np.float32), "label": label.astype(np.int32)}


def _split(data: dict[str, Any], size: int = 40) -> list[dict[str, Any]]:
    starts = range(0, len(data["label"]), size)
    return [{name: array[i : i + size] for name, array in data.items()} for i in starts]


def _trained(case: Case, trainable: Callable[[Any], Any], steps: int = 60) -> Case:
    """Train by Adam, replacing statistics by those of the last step."""
    tx = optax.adam(0.02)

    def loss(params: Any, rest: Any, batch: Any) -> Any:
        variables = {**rest, **params}
        value = case.loss(variables, batch)
        state = {} if case.train_apply is None else case.train_apply(variables, batch["image"])[1]
        return value, state

    @jax.jit
    def step(variables: Any, state: Any, batch: Any) -> Any:
        params = {name: variables[name] for name in trainable(variables)}
        rest = {name: leaf for name, leaf in variables.items() if name not in params}
        (_, new), gradient = jax.value_and_grad(loss, has_aux=True)(params, rest, batch)
        change, state = tx.update(gradient, state, params)
        return {**rest, **optax.apply_updates(params, change), **new}, state

    variables = case.variables
    state = tx.init({name: variables[name] for name in trainable(variables)})
    for number in range(steps):
        variables, state = step(variables, state, case.batches[number % len(case.batches)])
    return case._replace(variables=variables)


class _Depthwise(nn.Module):
    """Pointwise, depthwise, pointwise, with BatchNorm."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        def normed(hidden: jax.Array) -> jax.Array:
            return nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.8)(hidden))

        hidden = normed(nn.Conv(12, (3, 3), use_bias=False)(images))
        hidden = normed(nn.Conv(20, (1, 1), use_bias=False)(hidden))
        hidden = normed(nn.Conv(20, (3, 3), feature_group_count=20, use_bias=False)(hidden))
        hidden = normed(nn.Conv(10, (3, 3), use_bias=False)(hidden))
        return nn.Dense(CLASSES)(hidden.mean((1, 2)))


@functools.cache
def depthwise() -> Case:
    """Linen, with BatchNorm and a depthwise convolution."""
    module = _Depthwise()
    shape = (6, 6, 2)
    data, test = _data(shape, 0, 400), _data(shape, 1, 400)
    init = jax.jit(functools.partial(module.init, train=False))
    variables = init(jax.random.key(0), data["image"][:1])

    def apply(variables: Any, images: Any) -> Any:
        return module.apply(variables, images, train=False)

    def train_apply(variables: Any, images: Any, key: Any = None) -> Any:
        del key
        return module.apply(variables, images, train=True, mutable=["batch_stats"])

    case = Case(apply, train_apply, dict(variables), _split(data), test)
    return _trained(case, lambda variables: ["params"])


@functools.cache
def perceptron(dtype: Any = jnp.float32) -> Case:
    """A bare dict of kernels and biases, two hidden layers of unlike width."""
    shapes = {"a": (12, 32), "b": (32, 16), "c": (16, CLASSES)}
    keys = jax.random.split(jax.random.key(1), 3)
    variables = {
        name: (jax.random.normal(key, shape) / np.sqrt(shape[0])).astype(dtype)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    variables |= {f"{name}_bias": jnp.zeros(shape[1], dtype) for name, shape in shapes.items()}

    def apply(variables: Any, x: Any) -> Any:
        hidden = jnp.asarray(x, dtype)
        hidden = jnp.tanh(hidden @ variables["a"] + variables["a_bias"])
        hidden = jnp.tanh(hidden @ variables["b"] + variables["b_bias"])
        return hidden @ variables["c"] + variables["c_bias"]

    data, test = _data((12,), 0, 400), _data((12,), 1, 400)
    return _trained(Case(apply, None, variables, _split(data), test), list)


@functools.cache
def attention() -> Case:
    """A transformer block over six tokens, mean-pooled."""
    width, heads, size = 12, 3, 4
    shapes = {
        "embed": (3, width),
        "q": (width, heads, size),
        "k": (width, heads, size),
        "v": (width, heads, size),
        "o": (heads, size, width),
        "up": (width, 24),
        "down": (24, width),
        "head": (width, CLASSES),
    }
    keys = jax.random.split(jax.random.key(2), len(shapes))
    variables = {
        name: jax.random.normal(key, shape) / np.sqrt(np.prod(shape[:1]))
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }

    def apply(variables: Any, x: Any) -> Any:
        stream = x @ variables["embed"]
        q, k, v = (jnp.einsum("btd,dhs->bhts", stream, variables[name]) for name in "qkv")
        weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) / np.sqrt(size))
        stream = stream + jnp.einsum("bhts,hsd->btd", weights @ v, variables["o"])
        stream = stream + jax.nn.gelu(stream @ variables["up"]) @ variables["down"]
        return stream.mean(1) @ variables["head"]

    data, test = _data((6, 3), 0, 400), _data((6, 3), 1, 400)
    return _trained(Case(apply, None, variables, _split(data), test), list)
