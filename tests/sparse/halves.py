"""A small network, and half of its weights pruned."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcompress as jc
from jaxcompress import sparse
from jaxcompress.paths import flatten_with_paths
from jaxcompress.sparse import sparsify

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(5, 8)), jnp.float32)


def variables_of() -> Any:
    random = np.random.default_rng(1)
    shapes = {"a": {"kernel": (8, 12), "bias": (12,)}, "b": {"kernel": (12, 4)}}
    return jax.tree.map(
        lambda shape: jnp.asarray(random.normal(size=shape), jnp.float32),
        {"params": shapes},
        is_leaf=lambda node: isinstance(node, tuple),
    )


def apply(variables: Any, rows: jax.Array) -> jax.Array:
    params = variables["params"]
    hidden = jnp.tanh(rows @ params["a"]["kernel"] + params["a"]["bias"])
    return hidden @ params["b"]["kernel"]


def same(one: Any, other: Any) -> None:
    left, right = flatten_with_paths(one)[0], flatten_with_paths(other)[0]
    assert list(left) == list(right)
    for path, leaf in right.items():
        assert np.asarray(left[path]).tobytes() == np.asarray(leaf).tobytes(), path


def half(variables: Any) -> jc.Compression:
    return sparsify(variables, sparse.make_masks(variables, 0.5))
