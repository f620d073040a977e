"""`compensate`: later sites make up for what earlier ones have lost."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph import trace
from jaxcompress.low_rank import compensate, truncations
from jaxcompress.paths import flatten_with_paths
from tests.low_rank.sites import NHWC, TOYS, every_form
from tests.toys.record import draw, rows


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("name", [name for name in TOYS if name != "transposed"])
def test_an_unchanged_network_needs_nothing(name: str, centred: bool) -> None:
    toy = TOYS[name]()
    (x,) = toy.inputs
    graph = trace(toy.apply, toy.variables, x)
    forms = next(every_form(graph))
    targets, covariances = compensate(
        graph, toy.apply, toy.variables, toy.variables, [x], forms, 1.0, centred=centred
    )
    assert set(covariances) == set(forms)
    for old, new in zip(jax.tree.leaves(toy.variables), jax.tree.leaves(targets), strict=True):
        np.testing.assert_allclose(old, new, atol=1e-3)


def chain_of_two(variables: PyTree, x: Array) -> Array:
    options: dict[str, Any] = {
        "window_strides": (1, 1),
        "padding": "SAME",
        "dimension_numbers": NHWC,
    }
    hidden = jax.nn.relu(jax.lax.conv_general_dilated(x, variables["a"], **options))
    return jax.lax.conv_general_dilated(hidden, variables["b"], **options)


def test_the_second_convolution_makes_up_for_the_first() -> None:
    variables = draw(0, {"a": (3, 3, 4, 8), "b": (3, 3, 8, 3)})
    x, fresh = rows(64, 8, 8, 4), rows(64, 8, 8, 4, seed=9)
    graph = trace(chain_of_two, variables, x)
    forms = dict.fromkeys(graph.sites, "channel")
    changed = truncations(graph, variables, forms)({"a": 4})
    expected = chain_of_two(variables, fresh)

    def error(tree: PyTree) -> float:
        return float(((chain_of_two(tree, fresh) - expected) ** 2).mean())

    errors = [error(changed)]
    for step in (0.5, 1.0):
        targets, _ = compensate(
            graph, chain_of_two, variables, changed, [x[:32], x[32:]], {"b": "channel"}, step
        )
        leaves, _ = flatten_with_paths(targets)
        np.testing.assert_array_equal(leaves["a"], variables["a"])
        errors.append(error({"a": changed["a"], "b": leaves["b"]}))
    assert errors[2] < errors[1] < errors[0]


def test_errors() -> None:
    variables, x = {"w": jnp.ones((4, 4))}, rows(8, 4)
    apply = lambda v, inputs: inputs @ v["w"]  # noqa: E731
    graph = trace(apply, variables, x)
    with pytest.raises(ValueError, match="nowhere"):
        compensate(graph, apply, variables, variables, [x], {"nowhere": "dense"})
    with pytest.raises(ValueError, match="no batch"):
        compensate(graph, apply, variables, variables, [], {"w": "dense"})
