"""Rank searches on graphs: what sites count, what budgets bound, and what is measured."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.compression import chain
from jaxcompress.graph import Budget, Graph, trace
from jaxcompress.low_rank import factorize, ranks, truncations
from jaxcompress.low_rank.ranks import Ranks, Sites
from jaxcompress.low_rank.statistics import input_roots, output_covariances, output_sensitivities
from jaxcompress.models import evaluation_function
from jaxcompress.models.resnet import ResNet
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import shrink
from tests.toys.record import draw, initial, rows

IMAGES = rows(6, 8, 8, 3)
Network = tuple[Function, PyTree, Graph]


@pytest.fixture(scope="module")
def network() -> Network:
    """A narrow ResNet-8: 7 convolutions, two of them strided."""
    module = ResNet(depth=8, width=8)
    variables = initial(module, IMAGES, train=False)
    apply = jax.jit(evaluation_function(module))
    return apply, variables, trace(apply, variables, IMAGES)


@pytest.fixture(scope="module")
def sites(network: Network) -> Sites:
    _, variables, graph = network
    return ranks.sites_of(graph, variables)


def test_totals_are_of_the_whole_graph(network: Network, sites: Sites) -> None:
    _, _, graph = network
    assert sites.total["flops"] == pytest.approx(graph.flops)
    assert sites.total["params"] == pytest.approx(graph.params)
    assert sites.forms == ranks.convolution_sites(graph)
    assert len(sites.names) == sum(s.primitive != "dot_general" for s in graph.sites.values()) - 1


SEARCHES = {
    "enc_map": ranks.enc_map,
    "enc_model": ranks.enc_model,
    "optimum": ranks.optimum,
    "uniform": ranks.uniform,
    "energy_threshold": ranks.energy_threshold,
    "evbmf_scaled": ranks.evbmf_scaled,
}


@pytest.mark.parametrize("name", SEARCHES)
def test_counted_flops_and_params_hold_the_budget(
    network: Network, sites: Sites, name: str
) -> None:
    apply, variables, graph = network
    chosen = SEARCHES[name](sites, Budget(flops=0.6, params=0.7))
    lowrank = factorize(graph, chosen)
    small = trace(lowrank.function(apply), lowrank.variables(variables), IMAGES)
    assert small.flops <= 0.6 * graph.flops
    assert small.params <= 0.7 * graph.params
    assert min(small.flops / (0.6 * graph.flops), 1) > 0.9 or small.params > 0.63 * graph.params


def test_enc_ratio_leaves_out_what_is_not_searched(network: Network, sites: Sites) -> None:
    apply, variables, graph = network
    chosen = ranks.enc_map(sites, Budget(flops=0.5))
    rest = sites.rest["flops"] / graph.flops
    counted = trace_flops(graph, apply, variables, chosen)
    ratio = ranks.enc_ratio(sites, chosen)
    assert rest + (1 - rest) * ratio == pytest.approx(counted / graph.flops)
    assert ranks.enc_ratio(sites, {}) == 1.0


def test_spectra_are_singular_values_and_with_roots_output_errors() -> None:
    def apply(variables: PyTree, x: Array) -> Array:
        return jax.lax.conv_general_dilated(
            x, variables["w"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    variables, images = draw(0, {"w": (3, 3, 3, 8)}), jnp.abs(rows(16, 8, 8, 3))
    graph, forms = trace(apply, variables, images), {"w": "channel"}
    plain = ranks.spectra(graph, variables, forms)["w"]
    matrix = np.asarray(variables["w"]).reshape(-1, 8)
    np.testing.assert_allclose(plain, np.linalg.svd(matrix, compute_uv=False), rtol=1e-4)

    roots = input_roots(graph, apply, variables, images.reshape(2, 8, 8, 8, 3), forms, ridge=1e-9)
    weighted = ranks.spectra(graph, variables, forms, roots)["w"]
    expected = apply(variables, images)
    at = truncations(graph, variables, forms, roots)
    for rank in (2, 5):
        error = ((apply(at({"w": rank}), images) - expected) ** 2).sum(-1).mean()
        assert float(error) == pytest.approx((weighted[rank:] ** 2).sum(), rel=1e-2)


def test_scanned_and_shared_kernels_are_one_site() -> None:
    def apply(variables: PyTree, x: Array) -> Array:
        def layer(hidden: Array, kernel: Array) -> tuple[Array, None]:
            return jnp.tanh(hidden @ kernel), None

        hidden, _ = jax.lax.scan(layer, x, variables["stack"])
        return jnp.tanh(hidden @ variables["twice"]) @ variables["twice"]

    variables = draw(0, {"stack": (3, 6, 6), "twice": (6, 6)})
    graph = trace(apply, variables, rows(4, 6))
    forms = {"stack": "dense", "twice": "dense"}
    sites = ranks.sites_of(graph, variables, forms)
    assert sites.total == {
        "flops": graph.flops,
        "params": graph.params,
        "bytes": 4.0 * graph.params,
    }
    each = np.linalg.svd(np.asarray(variables["stack"]), compute_uv=False)
    np.testing.assert_allclose(sites.spectra[0], each.mean(0), rtol=1e-5)
    lowrank = factorize(graph, ranks.enc_map(sites, Budget(flops=0.7)), sites.forms)
    small = trace(lowrank.function(apply), lowrank.variables(variables), rows(4, 6))
    assert small.flops <= 0.7 * graph.flops


def test_measured_metric_truncates_one_site_at_a_time_with_one_program(
    network: Network,
) -> None:
    apply, variables, graph = network
    traces = []

    @jax.jit
    def agreement(given: PyTree) -> Array:
        traces.append(1)
        same = apply(given, IMAGES).argmax(-1) == apply(variables, IMAGES).argmax(-1)
        return same.mean()

    forms = dict(list(ranks.convolution_sites(graph).items())[:3])
    sites, at = ranks.sites_of(graph, variables, forms), truncations(graph, variables, forms)
    metric = ranks.measure(sites, lambda chosen: float(agreement(at(chosen))))
    assert len(traces) == 1
    assert [curve[-1] for curve in metric.curves] == [1.0] * 3
    site, form = next(iter(forms.items()))
    knot = int(sites.knots[0][0])
    alone = factorize(graph, {site: knot}, {site: form})
    outputs = alone.function(apply)(alone.variables(variables), IMAGES)
    expected = float((outputs.argmax(-1) == apply(variables, IMAGES).argmax(-1)).mean())
    assert metric.curves[0][knot] == pytest.approx(expected)


def test_sensitivity_predicts_the_error_of_the_outputs(network: Network, sites: Sites) -> None:
    """Small errors of a site move the outputs as far as its gradients say."""
    apply, variables, graph = network
    path, form = "params/stage3_block0/conv2/kernel", "channel"
    leaf = flatten_with_paths(variables)[0][path]
    images = rows(256, 8, 8, 3, seed=4)
    roots = input_roots(graph, apply, variables, [images], {path: form}, ridge=1e-6)
    covariances = output_covariances(
        graph, apply, variables, [images] * 4, [path], key=jax.random.key(0)
    )
    weights = output_sensitivities(covariances)
    noise = 1e-3 * rows(*leaf.shape, seed=5)
    leaves, treedef = flatten_with_paths(variables)
    moved = jax.tree.unflatten(treedef, list({**leaves, path: leaf + noise}.values()))
    change = float(((apply(moved, images) - apply(variables, images)) ** 2).sum(-1).mean())
    error = float(((roots[path][0].T @ np.asarray(noise).reshape(-1, leaf.shape[-1])) ** 2).sum())
    assert change == pytest.approx(weights[path] * error, rel=0.7)

    batches = images.reshape(2, 128, 8, 8, 3)
    metric = ranks.sensitivity(sites, graph, apply, variables, batches, key=jax.random.key(1))
    assert all((np.diff(curve) >= 0).all() and curve[0] >= np.exp(-21) for curve in metric.curves)
    chosen = ranks.optimum(sites, Budget(flops=0.5), metric=metric)
    assert trace_flops(graph, apply, variables, chosen) <= 0.5 * graph.flops


def trace_flops(graph: Graph, apply: Function, variables: PyTree, chosen: Ranks) -> float:
    lowrank = factorize(graph, chosen)
    return trace(lowrank.function(apply), lowrank.variables(variables), IMAGES).flops


def test_enc_inf_takes_the_most_accurate_candidate(network: Network, sites: Sites) -> None:
    _, variables, graph = network
    budget, at = Budget(flops=0.6), truncations(graph, variables, sites.forms)
    shapes, calls = jax.tree.map(jnp.shape, variables), []

    def evaluate(chosen: Ranks) -> float:
        calls.append(jax.tree.map(jnp.shape, at(chosen)))
        return len(calls) / 4

    chosen = ranks.enc_inf(sites, budget, evaluate=evaluate, count=4)
    assert calls == [shapes] * 4
    assert chosen == ranks.best_configurations(sites, budget, count=4)[-1]


def test_ranks_of_a_shrunk_network_hold_the_remaining_budget(
    network: Network,
) -> None:
    apply, variables, graph = network
    keep = {
        name: np.arange(group.width) < group.width - 2
        for name, group in graph.groups.items()
        if "conv1" in name
    }
    prune = shrink(graph, keep)
    small, small_apply = prune.variables(variables), prune.function(apply)
    middle = trace(small_apply, small, IMAGES)
    chosen = ranks.enc_map(ranks.sites_of(middle, small), Budget(flops=0.5).of(graph))
    both = chain(prune, factorize(middle, chosen))
    last = trace(both.function(apply), both.variables(variables), IMAGES)
    assert 0.45 * graph.flops < last.flops <= 0.5 * graph.flops


def test_errors_name_the_sites(network: Network, sites: Sites) -> None:
    _, variables, graph = network
    path = "params/stage1_block0/conv1/kernel"
    leaves, treedef = flatten_with_paths(variables)
    leaves[path] = leaves[path].at[0, 0, 0, 0].set(jnp.nan)
    broken = jax.tree.unflatten(treedef, list(leaves.values()))
    with pytest.raises(ValueError, match=f"finite.*{path}"):
        ranks.sites_of(graph, broken)
    with pytest.raises(ValueError, match="smallest reachable is"):
        ranks.enc_map(sites, Budget(flops=0.01))
    with pytest.raises(ValueError, match="nowhere"):
        ranks.sites_of(graph, variables, {"nowhere": "dense"})
    with pytest.raises(ValueError, match="nowhere"):
        truncations(graph, variables, {"nowhere": "dense"})
