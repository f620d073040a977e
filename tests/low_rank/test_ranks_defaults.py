"""What is factorized where nobody names sites."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxcompress import recipes
from jaxcompress.annotations import Function, PyTree
from jaxcompress.graph import Budget, Graph, trace
from jaxcompress.low_rank import factorize, ranks
from jaxcompress.models import evaluation_function
from jaxcompress.models.resnet import ResNet
from tests.toys.record import draw, initial, rows

ROWS = rows(3, 10)


def dense(variables: PyTree, x: jax.Array) -> jax.Array:
    return jax.nn.relu(jax.nn.relu(x @ variables["a"]) @ variables["b"]) @ variables["c"]


@pytest.fixture(scope="module")
def network() -> tuple[Graph, PyTree]:
    """Three dense layers, no convolution."""
    variables = draw(0, {"a": (10, 32), "b": (32, 32), "c": (32, 4)})
    return trace(dense, variables, ROWS), variables


@pytest.mark.parametrize("name", ["enc_map", "enc_model", "optimum", "uniform", "energy_threshold"])
def test_without_convolutions_every_site_is_searched(
    network: tuple[Graph, PyTree], name: str
) -> None:
    graph, variables = network
    sites = ranks.sites_of(graph, variables)
    assert sites.forms == ranks.default_forms(graph) == {path: "dense" for path in "abc"}
    chosen = getattr(ranks, name)(sites, Budget(flops=0.6))
    small = factorize(graph, chosen)
    counted = trace(small.function(dense), small.variables(variables), ROWS)
    assert counted.flops <= 0.6 * graph.flops


def test_convolutions_stay_the_default_where_there_are_any() -> None:
    module = ResNet(depth=8, width=8)
    images = rows(2, 8, 8, 3)
    variables = initial(module, images, train=False)
    graph = trace(evaluation_function(module), variables, images)
    for first in (False, True):
        assert ranks.default_forms(graph, first) == ranks.convolution_sites(graph, first)


def embedded(variables: PyTree, x: jax.Array) -> jax.Array:
    return (x @ variables["a"]) @ variables["a"].T + variables["a"].sum()


CASES: dict[str, tuple[Function, dict[str, tuple[int, ...]], str]] = {
    "too thin": (lambda v, x: x @ v["a"], {"a": (10, 1)}, "a: rank 1 costs no less"),
    "read elsewhere": (embedded, {"a": (10, 10)}, "a: read by 1 other operations"),
    "no kernel": (lambda v, x: x + v["a"], {"a": (10,)}, "no convolution or dot has a leaf"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_network_without_sites_says_why(name: str) -> None:
    apply, shapes, message = CASES[name]
    variables = draw(0, shapes)
    graph = trace(apply, variables, ROWS)
    assert ranks.default_forms(graph) == {}
    with pytest.raises(ValueError, match=message):
        ranks.sites_of(graph, variables)
    with pytest.raises(ValueError, match=message):
        recipes.low_rank(apply, variables, [ROWS], Budget(flops=0.5), key=jax.random.key(0))


def test_a_search_over_no_sites_says_what_is_missing(network: tuple[Graph, PyTree]) -> None:
    graph, variables = network
    with pytest.raises(ValueError, match="`forms` names no site; there are a, b, c"):
        ranks.sites_of(graph, variables, {})
    none = ranks.sites_from_costs([], [], [], [])
    with pytest.raises(ValueError, match="there is none; name kernels in `forms`"):
        ranks.uniform(none, Budget(flops=0.5))
    assert jnp.size(none.r_max) == 0
