"""Modules that wrote their sizes down: only the compression's function is right on small arrays."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
from flax import nnx

from jaxcompress import gated, shrink, trace
from jaxcompress.adapters import from_equinox, from_nnx
from tests.laws import close, gates_of

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (5, 3))


def halved(apply: Any, variables: Any) -> tuple[Any, jax.Array]:
    """Keep the first half of every group; hold that removing is masking."""
    graph = trace(apply, variables, X, means="all")
    keep = {n: np.arange(group.width) < group.width // 2 for n, group in graph.groups.items()}
    prune = shrink(graph, keep)
    small = prune.variables(variables)
    output = prune.function(apply)(small, X)
    close(output, gated(graph, apply)(variables, gates_of(graph, keep), X), 1e-5)
    return small, output


@pytest.mark.parametrize("norm", [eqx.nn.LayerNorm, eqx.nn.RMSNorm])
def test_norms_of_equinox_declare_their_shape(norm: Any) -> None:
    first, last = eqx.nn.Linear(3, 8, key=KEY), eqx.nn.Linear(8, 2, key=KEY)
    model = eqx.nn.Sequential([first, norm(8), last])
    small, _ = halved(*from_equinox(model))
    with pytest.raises(ValueError, match="shape"):
        jax.vmap(eqx.combine(small, model))(X)


def test_group_norms_of_nnx_declare_their_groups() -> None:
    rngs = nnx.Rngs(0)
    norm = nnx.GroupNorm(8, num_groups=4, rngs=rngs)
    model = nnx.Sequential(nnx.Linear(3, 8, rngs=rngs), norm, nnx.Linear(8, 2, rngs=rngs))
    small, _ = halved(*from_nnx(model))
    with pytest.raises(TypeError, match="reshape"):
        nnx.merge(nnx.graphdef(model), small)(X)


class Attention(eqx.Module):
    inner: eqx.nn.MultiheadAttention

    def __call__(self, x: jax.Array) -> jax.Array:
        tokens = x[:, None] * x
        return self.inner(tokens, tokens, tokens)


def grouped() -> Any:
    first, last = eqx.nn.Linear(3, 8, key=KEY), eqx.nn.Linear(8, 2, key=KEY)
    return eqx.nn.Sequential([first, eqx.nn.GroupNorm(2, 8), last])


def attention() -> Any:
    return Attention(eqx.nn.MultiheadAttention(4, 3, qk_size=2, vo_size=2, key=KEY))


@pytest.mark.parametrize("make", [grouped, attention])
def test_equinox_divides_what_is_left_into_as_many_groups_or_heads(make: Any) -> None:
    model = make()
    small, output = halved(*from_equinox(model))
    assert np.abs(jax.vmap(eqx.combine(small, model))(X) - output).max() > 1e-3
