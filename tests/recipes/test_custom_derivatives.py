"""The front door takes networks whose layers have a derivative rule of their own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import jaxcompress as jc
from tests.toys.record import draw, rows

INPUTS = rows(8, 4)
SHAPES = {"a": (4, 12), "b": (12, 10), "c": (10, 3)}


@jax.custom_vjp
def dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A layer that comes with its own backward pass, as quantized and fused ones do."""
    return x @ kernel


dense.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))


def apply(variables: Any, x: jax.Array) -> jax.Array:
    hidden = jnp.tanh(dense(jnp.tanh(x @ variables["a"]), variables["b"]))
    return hidden @ variables["c"]


def test_groups_whose_gates_have_no_gradient_are_left_whole() -> None:
    variables = draw(5, SHAPES)
    graph = jc.trace(apply, variables, INPUTS)
    assert list(graph.groups) == ["a[1]", "b[1]"] and graph.graded == ["b[1]"]
    for groups in ("internal", "all"):
        prune = jc.recipes.prune(
            apply,
            variables,
            [INPUTS],
            jc.Budget(params=0.9),
            key=jax.random.key(0),
            groups=groups,
            examples=8,
        )
        small = prune.variables(variables)
        assert small["a"].shape == (4, 12) and small["b"].shape[1] < 10
