"""Single primitives: what they tie, and that the smaller program computes the masked one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxcompress.graph import trace
from jaxcompress.prune import gated, shrink

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
INDICES = np.array([5, 0, 3, 3])


def _take(hidden: jax.Array) -> jax.Array:
    numbers = lax.GatherDimensionNumbers((0,), (1,), (1,))
    return lax.gather(hidden, INDICES[:, None], numbers, (3, 1), mode="clip")


def _update(hidden: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice(hidden, hidden[:1] * 2, (1, 0))


MIDDLES = {
    "tile": (lambda h: jnp.tile(h, (1, 2)), 6),
    "tile of one": (lambda h: h * jnp.tile(h[:, :1] * 0 + 2.0, (1, 6)), 5),
    "stack": (lambda h: jnp.stack([h, jnp.sin(h)]).sum(0), 6),
    "stack last": (lambda h: jnp.stack([h, jnp.sin(h)], axis=-1).reshape(3, 12), 6),
    "unstack": (lambda h: jnp.asarray(sum(jnp.unstack(h, axis=0)))[None] + h, 6),
    "concatenate rows": (lambda h: jnp.concatenate([h, h])[2:5], 6),
    "concatenate itself": (lambda h: jnp.concatenate([h, h], axis=1), 6),
    "strided slice": (lambda h: h[:, ::2], 3),
    "known gather": (_take, 3),
    "pad": (lambda h: jnp.pad(h, ((0, 0), (2, 1))), 6),
    "broadcast of size 1": (lambda h: (h[:, :, None] * jnp.ones((1, 1, 3))).sum(2), 6),
    "outer product": (lambda h: (h[:, :, None] * ROWS[:, None, :2]).reshape(3, 12), 6),
    "dynamic update": (_update, 6),
    "reverse": (lambda h: jnp.flip(h, axis=1), 6),
    "maximum over rows": (lambda h: h - lax.cummax(h, axis=0) + h.max(0), 6),
    "clamp": (lambda h: jnp.clip(h, -0.5, 0.5), 6),
    "where": (lambda h: jnp.where(h > 0, h, jnp.expm1(h)), 6),
    "noise": (lambda h: h + jax.random.normal(jax.random.key(0), h.shape), 6),
    "positions": (lambda h: h * jnp.arange(6.0), 6),
}


@pytest.mark.parametrize("name", MIDDLES)
def test_one_primitive(name: str) -> None:
    middle, width = MIDDLES[name]
    first = jnp.asarray(np.random.default_rng(1).normal(size=(4, 6)), jnp.float32)
    outputs = jax.eval_shape(middle, jax.ShapeDtypeStruct((3, 6), jnp.float32)).shape[1]
    second = jnp.asarray(np.random.default_rng(2).normal(size=(outputs, 2)), jnp.float32)
    variables = {"first": first, "second": second}

    def apply(variables: Any, rows: jax.Array) -> jax.Array:
        return middle(jnp.tanh(rows @ variables["first"])) @ variables["second"]

    graph = trace(apply, variables, ROWS)
    groups = [g for g in graph.groups.values() if g.name.startswith("first[1]")]
    assert sum(group.width for group in groups) == width, str(graph)
    keep = {n: np.arange(g.width) % 2 == 0 for n, g in graph.groups.items()}
    prune = shrink(graph, keep)
    gates = {name: mask.astype(np.float32) for name, mask in keep.items()}
    expected = gated(graph, apply)(variables, gates, ROWS)
    output = prune.function(apply)(prune.variables(variables), ROWS)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
