"""Half precision: the same laws up to its rounding, and sums that are those of float32."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcompress import Budget, factorize, gated, select, shrink, trace
from jaxcompress.graph import Graph
from jaxcompress.low_rank import compensate, multiplied_out, ranks, refine, truncations
from jaxcompress.low_rank.statistics import input_covariances, input_roots
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import importance, ones
from tests.laws import TOYS, close, gates_of, random_keep
from tests.toys.record import Toy, draw, rows

NETWORKS = ["residual_b", "grouped", "fused_attention", "gated_linear_unit", "scanned"]
every_network = pytest.mark.parametrize("name", NETWORKS)
every_half = pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])


def halved(tree: Any, dtype: Any) -> Any:
    """Cast the float leaves."""
    is_float = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if is_float(leaf) else leaf, tree)


@functools.cache
def half(name: str, dtype: Any) -> tuple[Toy, Any, tuple[Any, ...], Graph]:
    """Return a toy, its variables and inputs in half precision, and their graph."""
    toy = TOYS[name]()
    variables, inputs = halved(toy.variables, dtype), halved(toy.inputs, dtype)
    return toy, variables, inputs, trace(toy.apply, variables, *inputs)


def rounding(dtype: Any) -> float:
    """Return a few roundings, one for each layer whose sums run in another order."""
    return 6 * float(jnp.finfo(dtype).eps)


@every_half
@every_network
def test_groups_are_those_of_float32(name: str, dtype: Any) -> None:
    toy, _, _, graph = half(name, dtype)
    assert {n: group.width for n, group in graph.groups.items()} == dict(toy.groups)


@every_half
@every_network
def test_mask_is_shrink(name: str, dtype: Any) -> None:
    toy, variables, inputs, graph = half(name, dtype)
    keep = random_keep(graph)
    prune = shrink(graph, keep)
    expected = jax.jit(gated(graph, toy.apply))(variables, gates_of(graph, keep), *inputs)
    output = jax.jit(prune.function(toy.apply))(prune.variables(variables), *inputs)
    assert output.dtype == expected.dtype
    close(output, expected, rounding(dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(prune.variables(variables))} == {
        leaf.dtype for leaf in jax.tree.leaves(variables)
    }


@every_half
@every_network
def test_gates_of_one_change_nothing(name: str, dtype: Any) -> None:
    toy, variables, inputs, graph = half(name, dtype)
    expected = jax.jit(toy.apply)(variables, *inputs)
    output = jax.jit(gated(graph, toy.apply))(variables, ones(graph), *inputs)
    assert output.dtype == expected.dtype
    close(output, expected, rounding(dtype))


@every_half
@every_network
def test_factors_of_full_rank_change_nothing(name: str, dtype: Any) -> None:
    toy, variables, inputs, graph = half(name, dtype)
    chosen = {path: site.forms[0].full for path, site in graph.sites.items() if site.forms}
    lowrank = factorize(graph, chosen)
    small = lowrank.variables(variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(small)} == {
        leaf.dtype for leaf in jax.tree.leaves(variables)
    }
    back = flatten_with_paths(jax.jit(functools.partial(multiplied_out, lowrank))(small))[0]
    expected = flatten_with_paths(variables)[0]
    for path in chosen:
        # Both factors are rounded, and what they give is rounded once more.
        close(back[path], expected[path], 2 * float(jnp.finfo(dtype).eps))
    output = jax.jit(lowrank.function(toy.apply))(small, *inputs)
    close(output, jax.jit(toy.apply)(variables, *inputs), 2 * rounding(dtype))


def two_layers(variables: Any, x: jax.Array) -> jax.Array:
    return jax.nn.tanh(x @ variables["a"]) @ variables["b"]


def wide(dtype: Any, scale: float) -> tuple[Any, jax.Array, Graph]:
    """Return the variables of a wide network, its inputs, and its graph."""
    drawn = draw(0, {"a": (576, 64), "b": (64, 16)})
    variables = {name: (scale * leaf).astype(dtype) for name, leaf in drawn.items()}
    x = rows(512, 576).astype(dtype)
    return variables, x, trace(two_layers, variables, x)


@pytest.mark.parametrize(("dtype", "scale"), [(jnp.bfloat16, 1.0), (jnp.float16, 2e-3)])
@pytest.mark.parametrize("order", [1, 2])
def test_magnitudes_are_those_of_float64(dtype: Any, scale: float, order: int) -> None:
    variables, _, graph = wide(dtype, scale)
    score = importance.magnitude(graph, variables, order=order)["a[1]"]
    exact = np.linalg.norm(np.asarray(variables["a"], np.float64), order, axis=0)
    np.testing.assert_allclose(score, exact, rtol=1e-6)
    kept = [select(graph, {"a[1]": norms}, Budget(params=0.5))["a[1]"] for norms in (score, exact)]
    np.testing.assert_array_equal(kept[0], kept[1])


@every_half
@pytest.mark.parametrize("method", ["taylor", "fisher", "meta"])
def test_scores_by_gradients_are_summed_in_float32(method: str, dtype: Any) -> None:
    variables, x, graph = wide(dtype, 1.0)

    def loss(params: Any, batch: jax.Array) -> jax.Array:
        # float16 holds the gradient of each example's gate, but not their sum.
        return 1e4 * jnp.abs(two_layers(params, batch).astype(jnp.float32)).sum()

    def scored(params: Any, batch: jax.Array) -> jax.Array:
        given = graph, loss, params, batch[None]
        if method == "taylor":
            return importance.taylor(*given)["a[1]"]
        if method == "fisher":
            return importance.fisher(*given, key=jax.random.key(0), keep=(1.0, 1.0))["a[1]"]
        still = optax.set_to_zero()
        support = batch[None, None, :1]
        return importance.meta(graph, loss, params, support, batch[None], optimizer=still)["a[1]"]

    score = scored(variables, x)
    assert score.dtype == jnp.float32
    expected = scored(halved(variables, jnp.float32), x.astype(jnp.float32))
    error = jnp.linalg.norm(score - expected) / jnp.linalg.norm(expected)
    assert float(error) < float(jnp.finfo(dtype).eps)


@every_half
def test_covariances_are_those_of_float64(dtype: Any) -> None:
    variables, x, graph = wide(dtype, 1.0)
    given = graph, two_layers, variables, [x], {"a": "dense"}
    covariance = input_covariances(*given)["a"][0]
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(covariance, exact.T @ exact / len(exact), atol=1e-5)
    targets, _ = compensate(graph, two_layers, variables, variables, [x], {"a": "dense"})
    assert targets["a"].dtype == dtype
    close(targets["a"], variables["a"], float(jnp.finfo(dtype).eps))


@every_half
def test_spectra_and_truncations_are_those_of_float64(dtype: Any) -> None:
    variables, x, graph = wide(dtype, 1.0)
    forms = {"a": "dense", "b": "dense"}
    exact = np.linalg.svd(np.asarray(variables["b"], np.float64), compute_uv=False)
    np.testing.assert_allclose(
        ranks.spectra(graph, variables, forms)["b"], exact, rtol=1e-6, atol=1e-6
    )
    sites = ranks.sites_of(graph, variables, forms)
    assert sites.dense["bytes"].tolist() == (2 * sites.dense["params"]).tolist()
    chosen = ranks.enc_map(sites, Budget(flops=0.5))
    roots = input_roots(graph, two_layers, variables, [x], forms)
    lowrank = factorize(graph, chosen, forms, roots)
    small = refine(lowrank, variables, lowrank.variables(variables), {})
    back, cut = multiplied_out(lowrank, small), truncations(graph, variables, forms, roots)(chosen)
    assert {leaf.dtype for leaf in jax.tree.leaves((small, back, cut))} == {jnp.dtype(dtype)}
    close(back, cut, 4 * float(jnp.finfo(dtype).eps))
