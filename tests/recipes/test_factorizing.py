"""`recipes.low_rank` on networks that are not shipped: budgets, its promise, and refusals."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress import recipes
from tests.recipes import networks
from tests.trees import structure_of

KEY = jax.random.key(3)
SETTINGS = recipes.LowRankSettings(examples=200, size=40, fitting=120, fitting_size=40)


@pytest.fixture(scope="module", params=["depthwise", "perceptron", "attention"])
def case(request: pytest.FixtureRequest) -> networks.Case:
    return getattr(networks, request.param)()


def found_by(case: networks.Case, **options: Any) -> recipes.LowRank:
    given = {"train_apply": case.train_apply, "settings": SETTINGS, "key": KEY, **options}
    budget = given.pop("budget", jc.Budget(flops=0.7))
    batches = given.pop("batches", case.batches)
    return recipes.low_rank(case.apply, case.variables, batches, budget, **given)


def distance(case: networks.Case, result: recipes.LowRank) -> float:
    """Return the distance from the dense network's answers on test data, in evaluation mode."""
    compare = recipes.distances.distance_of("classes")
    x = case.test["image"]
    outputs = jax.jit(result.compression.function(case.apply))(result.variables, x)
    return float(compare(outputs, jax.jit(case.apply)(case.variables, x)).mean())


@pytest.fixture(scope="module")
def twice(case: networks.Case) -> recipes.LowRank:
    return found_by(case, batches=(batch for batch in case.batches))


@pytest.fixture(scope="module")
def never(case: networks.Case) -> recipes.LowRank:
    return found_by(case, compensate=0)


def test_budget_and_better_than_kernels_cut_alone(
    case: networks.Case, twice: recipes.LowRank
) -> None:
    result = twice
    x = case.test["image"][:1]
    small = jc.trace(result.compression.function(case.apply), result.variables, x)
    graph = jc.trace(case.apply, case.variables, x)
    assert small.flops <= 0.7 * graph.flops
    forms = jc.ranks.default_forms(graph)
    chosen = jc.ranks.uniform(jc.ranks.sites_of(graph, case.variables, forms), jc.Budget(flops=0.7))
    bare = jc.factorize(graph, chosen, forms)
    cut = recipes.LowRank(bare, bare.variables(case.variables))
    assert distance(case, result) < 0.8 * distance(case, cut)


def test_compression_makes_factors_of_any_variables(
    case: networks.Case, never: recipes.LowRank
) -> None:
    """The record is pure: the same function of variables, data inside, and it survives JSON."""
    result = never
    small = result.compression.variables(case.variables)
    shapes = jax.tree.map(jnp.shape, small)
    assert shapes == jax.tree.map(jnp.shape, result.variables)
    assert structure_of(small) == structure_of(result.variables)
    again = jc.from_spec(result.compression.spec)
    x = case.test["image"][:8]
    np.testing.assert_array_equal(
        again.function(case.apply)(result.variables, x),
        result.compression.function(case.apply)(result.variables, x),
    )


@pytest.mark.parametrize("case", ["depthwise"], indirect=True)
def test_compensation_helps_where_statistics_are_renewed(
    case: networks.Case, twice: recipes.LowRank, never: recipes.LowRank
) -> None:
    assert distance(case, twice) < distance(case, never)


def test_ranks_are_given_or_searched() -> None:
    case = networks.perceptron()
    assert found_by(case, ranks={"b": 3}).variables["b"]["first"].shape == (32, 3)
    searched = found_by(case, ranks=jc.ranks.enc_map).compression.spec["sites"]
    assert searched


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "one batch": ({"batches": jnp.ones((3, 12))}, TypeError, r"pass \[batch\]"),
    "bare budget": ({"budget": 0.5}, TypeError, "Budget"),
    "unreachable": ({"budget": jc.Budget(flops=1e-4)}, ValueError, "smallest reachable"),
    "site": ({"ranks": {"nope": 2}}, ValueError, "nope"),
    "no form": ({"forms": {}}, ValueError, "nothing can be factorized"),
    "distance": ({"distance": "logits"}, ValueError, "'classes', 'values'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_refused(name: str) -> None:
    changed, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        found_by(networks.perceptron(), **changed)


def test_half_precision_and_values() -> None:
    case = networks.perceptron(jnp.bfloat16)
    result = found_by(case, distance="values")
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(result.variables))
    assert np.isfinite(distance(case, result))


@pytest.mark.parametrize("search", [None, jc.ranks.enc_map], ids=["default", "enc_map"])
def test_searched_ranks_are_multiples(search: Any) -> None:
    case = networks.perceptron()
    result = found_by(case, ranks=search, multiple_of=4, compensate=0)
    sites = result.compression.spec["sites"].values()
    assert sites and all(site["rank"] % 4 == 0 for site in sites)
    with pytest.raises(ValueError, match="smallest reachable"):
        found_by(case, multiple_of=64)
