"""One model of NNX and one of Equinox, adapted, with what tests ask of both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxcompress.compression import Compression
from jaxcompress.graph import Graph, trace
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import shrink

STATISTICS: dict[type, set[str]] = {
    nnx.State: {"norm/mean", "norm/var"},
    tuple: {"1/0", "1/1/0", "1/1/1"},
}
IMAGES = jax.random.normal(jax.random.key(1), (4, 6, 6, 3))


class NnxNet(nnx.Module):
    """Conv, BatchNorm, residual conv, dropout, MLP."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.block = nnx.Conv(6, 6, (3, 3), rngs=rngs)
        self.hidden = nnx.Linear(6, 8, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.stem(images)))
        x = (x + nnx.relu(self.block(x))).mean((1, 2))
        return self.head(self.dropout(nnx.relu(self.hidden(x))))


class EquinoxNet(eqx.Module):
    """Conv, BatchNorm, conv, dropout, dense, on one example with channels last."""

    stem: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    block: eqx.nn.Conv2d
    dropout: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 3)
        self.stem = eqx.nn.Conv2d(3, 6, 3, key=keys[0])
        self.norm = eqx.nn.BatchNorm(6, axis_name="batch", mode="batch")
        self.block = eqx.nn.Conv2d(6, 5, 3, key=keys[1])
        self.dropout = eqx.nn.Dropout(0.5)
        self.head = eqx.nn.Linear(5, 2, key=keys[2])

    def __call__(
        self, image: jax.Array, state: eqx.nn.State, key: jax.Array | None = None
    ) -> tuple[jax.Array, eqx.nn.State]:
        x, state = self.norm(self.stem(jnp.moveaxis(image, -1, 0)), state)
        x = jax.nn.relu(self.block(jax.nn.relu(x))).mean((1, 2))
        return self.head(self.dropout(x, key=key)), state


class Adapted(NamedTuple):
    """An adapted model with random variables, its graph, and a compression of every group."""

    model: Any
    make: Callable[..., Any]
    apply: Callable[..., Any]
    train: Callable[..., Any]
    variables: Any
    graph: Graph
    keep: dict[str, np.ndarray]
    prune: Compression


def randomised(variables: Any) -> Any:
    """Move every inexact leaf, so that no bias or statistic is trivial."""
    leaves, treedef = flatten_with_paths(variables)
    generator = np.random.default_rng(0)
    moved = [
        leaf + 0.1 + 0.2 * generator.random(leaf.shape, np.float32)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
        else leaf
        for leaf in leaves.values()
    ]
    return jax.tree.unflatten(treedef, moved)


def adapted(make: Callable[..., Any], model: Any) -> Adapted:
    apply, variables = make(model)
    train, same = make(model, train=True)
    structure: Any = jax.tree.structure(variables)
    assert structure == jax.tree.structure(same)
    variables = randomised(variables)
    graph = trace(apply, variables, IMAGES)
    generator = np.random.default_rng(3)
    keep = {name: generator.permutation(g.width) < 3 for name, g in graph.groups.items()}
    prune = shrink(graph, keep)
    return Adapted(model, make, apply, train, variables, graph, keep, prune)


def masks(net: Adapted) -> dict[str, jax.Array]:
    return {name: jnp.asarray(kept, jnp.float32) for name, kept in net.keep.items()}


def assert_close(actual: Any, expected: Any) -> None:
    actual, expected = flatten_with_paths(actual)[0], flatten_with_paths(expected)[0]
    assert list(actual) == list(expected)
    for path, leaf in expected.items():
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(actual[path], leaf, rtol=1e-5, atol=1e-5, err_msg=path)


def changed(after: Any, before: Any) -> set[str]:
    """Return the paths of the leaves that differ."""
    after, before = flatten_with_paths(after)[0], flatten_with_paths(before)[0]
    return {path for path, leaf in before.items() if not bool(jnp.all(after[path] == leaf))}
