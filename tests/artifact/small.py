"""Shrunk networks that the tests of artifacts save, and what they demand of the loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.compression import Compression
from jaxcompress.graph import trace
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import shrink

CONFIG = {"width": 4}


class Small(NamedTuple):
    """A shrunk network: its compression, and its variables before and after."""

    prune: Compression
    variables: Any
    small: Any


def half(apply: Callable[..., Any], variables: Any, *inputs: Any) -> Small:
    """Keep half of every group's channels."""
    graph = trace(apply, variables, *inputs)
    keep = {name: np.arange(g.width) < (g.width + 1) // 2 for name, g in graph.groups.items()}
    prune = shrink(graph, keep)
    assert keep
    return Small(prune, variables, prune.variables(variables))


def mlp(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ variables["a"]["kernel"]) @ variables["b"]["kernel"]


def assert_same(actual: Any, expected: Any) -> None:
    """Demand equal paths, dtypes and bits."""
    actual, expected = flatten_with_paths(actual)[0], flatten_with_paths(expected)[0]
    assert list(actual) == list(expected)
    for path, leaf in expected.items():
        leaf = jnp.asarray(leaf)
        assert (actual[path].shape, actual[path].dtype) == (leaf.shape, leaf.dtype), path
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        one, other = (jax.random.key_data(a) if is_key else a for a in (actual[path], leaf))
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes(), path


def data_file(folder: Path) -> Path:
    (file,) = folder.glob("*.safetensors")
    return file
