"""NaN, infinity and ranks that are no integers: refused by name, before long work."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress import Budget, factorize, select, threshold, trace
from jaxcompress.annotations import Function
from jaxcompress.low_rank import compensate
from jaxcompress.low_rank.statistics import input_roots
from jaxcompress.low_rank.statistics.covariance import covariance_root
from jaxcompress.prune import importance
from tests.toys.record import draw, rows

X = rows(8, 6)
VARIABLES = draw(0, {"a": (6, 5), "b": (5, 3)})
BROKEN = {**VARIABLES, "a": VARIABLES["a"].at[0, 0].set(jnp.nan)}
FORMS = {"a": "dense", "b": "dense"}


def apply(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ variables["a"]) @ variables["b"]


def loss(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.square(apply(variables, x)).mean()


GRAPH = trace(apply, VARIABLES, X)


def branched(variables: Any, x: jax.Array) -> jax.Array:
    """Return what every score finds something in: a branch, a scale, a nonlinearity."""
    return x + jnp.tanh(x @ variables["a"]) * variables["scale"] @ variables["c"]


def branched_loss(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.square(branched(variables, x)).mean()


BRANCHED = draw(0, {"a": (6, 5), "c": (5, 6)}) | {"scale": jnp.ones(5)}
SCORED = trace(branched, BRANCHED, X)
SCORES: dict[str, Function] = {
    "magnitude": lambda v, x: importance.magnitude(SCORED, v),
    "norm_scales": lambda v, x: importance.norm_scales(SCORED, v),
    "taylor": lambda v, x: importance.taylor(SCORED, branched_loss, v, x[None]),
    "fisher": lambda v, x: importance.fisher(
        SCORED, branched_loss, v, x[None], key=jax.random.key(0)
    ),
    "meta": lambda v, x: importance.meta(SCORED, branched_loss, v, x[None, None], x[None]),
    "activation_norms": lambda v, x: importance.activation_norms(SCORED, branched, v, [x]),
    "block_influence": lambda v, x: importance.block_influence(SCORED, branched, v, [x]),
}
ARGUMENTS = {
    name: inspect.signature(getattr(importance, name)).parameters
    for name in importance.__all__
    if inspect.signature(getattr(importance, name)).return_annotation == "Scores"
}


def test_every_score_of_variables_is_tried_here() -> None:
    assert {name for name, given in ARGUMENTS.items() if "variables" in given} == set(SCORES)


@pytest.mark.parametrize("method", SCORES)
def test_scores_are_finite_until_a_weight_is_nan(method: str) -> None:
    assert all(np.isfinite(score).all() for score in SCORES[method](BRANCHED, X).values())
    with pytest.raises(ValueError, match="number of variables must be finite, but .*: a;"):
        SCORES[method]({**BRANCHED, "a": BRANCHED["a"].at[0, 0].set(jnp.nan)}, X)


@pytest.mark.parametrize(
    "method", [name for name in SCORES if {"batches", "query"} & set(ARGUMENTS[name])]
)
def test_a_batch_that_holds_nan_gives_no_scores(method: str) -> None:
    with pytest.raises((ValueError, FloatingPointError), match=r"finite, but .* batch"):
        SCORES[method](BRANCHED, X.at[0, 0].set(jnp.nan))


def test_scores_that_have_no_order_are_refused_or_poison_their_gates() -> None:
    absolute = Budget(flops=0.5).of(GRAPH)
    scores = {"a[1]": jnp.array([1.0, jnp.nan, 3.0, 2.0, 5.0])}
    inside = jax.jit(lambda scores: threshold(GRAPH.cost, scores, absolute))(scores)
    assert np.isnan(inside["a[1]"]).all()
    with pytest.raises(TypeError, match=r"those of \['a\[1\]'\] are complex"):
        select(GRAPH, {"a[1]": np.arange(5) + 1j}, Budget(flops=0.5))


def test_episodes_are_taken_together_in_equal_parts() -> None:
    with pytest.raises(ValueError, match="together=4 does not divide the 6 episodes"):
        importance.meta(
            GRAPH, loss, VARIABLES, jnp.ones((6, 1, 8, 6)), jnp.ones((6, 8, 6)), together=4
        )


@pytest.mark.parametrize("axis", [2, -3, 5])
def test_the_axis_of_examples_is_one_of_the_inputs(axis: int) -> None:
    with pytest.raises(ValueError, match=rf"no axis {axis} in their shapes \[\(8, 6\)\]"):
        trace(apply, VARIABLES, X, batch_axis=axis)


def test_what_is_measured_on_data_must_be_finite() -> None:
    with pytest.raises(ValueError, match="number of input covariances .*: a, b; .* the batches"):
        input_roots(GRAPH, apply, VARIABLES, [X.at[0, 0].set(jnp.nan)], FORMS)
    with pytest.raises(ValueError, match="number of variables must be finite, but .*: a;"):
        input_roots(GRAPH, apply, BROKEN, [X], FORMS)
    with pytest.raises(ValueError, match="number of changed must be finite, but .*: a;"):
        compensate(GRAPH, apply, VARIABLES, BROKEN, [X], FORMS)


def test_roots_must_be_finite() -> None:
    roots = {"a": np.full((1, 6, 6), np.nan), "b": np.eye(5)[None]}
    with pytest.raises(ValueError, match="number of roots must be finite, but .*: a;"):
        factorize(GRAPH, {"a": 2, "b": 2}, FORMS, roots).variables(VARIABLES)


@pytest.mark.parametrize("rank", [2.5, 2.0, True, np.float32(2)])
def test_a_rank_is_an_integer(rank: Any) -> None:
    with pytest.raises(ValueError, match="a: rank .* is no integer"):
        factorize(GRAPH, {"a": rank, "b": 2})
    integer: Any = np.int64(2)
    assert factorize(GRAPH, {"a": integer}).spec["sites"]["a"]["rank"] == 2


@pytest.mark.parametrize("value", [3.0, 0.1, 1e4])
def test_inputs_that_never_vary_have_centred_roots(value: float) -> None:
    x = jnp.full((8, 6), value)
    roots = input_roots(GRAPH, apply, VARIABLES, [x], FORMS, centred=True)
    assert all(np.isfinite(root).all() for root in roots.values())
    factors = factorize(GRAPH, {"a": 5, "b": 3}, FORMS, roots).variables(VARIABLES)
    for name in FORMS:
        back = factors[name]["first"] @ factors[name]["second"]
        np.testing.assert_allclose(back, VARIABLES[name], atol=1e-4)


def test_a_covariance_without_a_root_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="must be positive definite, but with ridge=0.0"):
        covariance_root(np.zeros((2, 2)) - np.eye(2) + 1.0, ridge=0.0, whole=np.eye(2))
    with pytest.raises(ValueError, match="a covariance must be finite"):
        covariance_root(np.full((2, 2), np.nan))


def test_a_function_that_fails_says_with_what_it_was_traced() -> None:
    with pytest.raises(Exception) as error:
        trace(lambda v, x: x.transpose(1, 0) @ v["a"], VARIABLES, X[0])
    assert (
        "the function was traced with inputs of shapes [6], examples first: one is images[:1], "
        "not images[0]"
    ) in error.value.__notes__
