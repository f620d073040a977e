"""Scales of normalisation: found in the program, summed by hand, on every form of transformer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import importance
from tests.prune.importance.transformers import NETWORKS, traced
from tests.toys.record import rows


def apply(variables: Any, x: jax.Array) -> jax.Array:
    """Two RMS normalisations of one width; a bias and a shift of the same size scale nothing."""
    stream = x @ variables["in"] + variables["bias"]
    for kernel, gain in (("first", "g"), ("second", "h")):
        size = jnp.sqrt(jnp.square(stream).mean(-1, keepdims=True))
        stream = stream + (stream / size * variables[gain]) @ variables[kernel]
    return (stream + variables["shift"]) @ variables["out"]


VARIABLES = {
    **dict.fromkeys(("first", "second"), jnp.eye(2)),
    **{"in": jnp.ones((3, 2)), "out": jnp.ones((2, 4)), "bias": jnp.ones(2), "shift": jnp.ones(2)},
    "g": jnp.array([3.0, 0.0]),
    "h": jnp.array([-4.0, 2.0]),
}
GRAPH = jc.trace(apply, VARIABLES, rows(5, 3))


def test_the_scales_of_a_width_are_added_up_as_squares() -> None:
    assert GRAPH.scales == ("g", "h")
    scores = importance.norm_scales(GRAPH, VARIABLES)
    assert {name: score.tolist() for name, score in scores.items()} == {"first[1]": [5.0, 2.0]}
    assert scores.unit == "raw norm"


def test_a_scale_that_a_variance_divides_first_is_one_and_the_variance_is_none() -> None:
    def batch_norm(variables: Any, x: jax.Array) -> jax.Array:
        factor = variables["scale"] * jax.lax.rsqrt(variables["var"] + 1e-5)
        return jnp.tanh((x @ variables["a"] - variables["mean"]) * factor) @ variables["b"]

    variables = {"a": jnp.ones((3, 2)), "b": jnp.ones((2, 4)), "mean": jnp.zeros(2)}
    variables |= {"var": jnp.array([4.0, 9.0]), "scale": jnp.array([-1.0, 2.0])}
    graph = jc.trace(batch_norm, variables, rows(5, 3))
    assert graph.scales == ("scale",)
    assert importance.norm_scales(graph, variables)["a[1]"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", NETWORKS)
def test_residual_widths_of_transformers_have_scales_and_nothing_else(name: str) -> None:
    apply, variables, inputs, graph = traced(name)
    scores = importance.norm_scales(graph, variables)
    assert list(scores) == list(graph.streams)
    leaves, _ = flatten_with_paths(variables)
    named = [np.asarray(leaf) for path, leaf in leaves.items() if path.endswith("/scale")]
    squares = sum(np.square(leaf).reshape(-1, leaf.shape[-1]).sum(0) for leaf in named)
    for score in scores.values():
        np.testing.assert_allclose(score, np.sqrt(squares), rtol=1e-5)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
    for score in importance.norm_scales(graph, half).values():
        assert score.dtype == jnp.float32


def test_a_network_without_scales_is_refused() -> None:
    variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
    graph = jc.trace(lambda v, x: jnp.tanh(x @ v["a"]) @ v["b"], variables, rows(5, 3))
    with pytest.raises(ValueError, match=r"no group has any: .* products are \[\]; use magnitude"):
        importance.norm_scales(graph, variables)
