"""`recipes.sparse`: kernels alone, exact counts, and what it refuses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress import recipes
from jaxcompress.annotations import PyTree
from tests.recipes import networks


@pytest.fixture(scope="module")
def attention() -> networks.Case:
    return networks.attention()


def zeros(tree: PyTree) -> dict[str, int]:
    return {name: int((np.asarray(leaf) == 0).sum()) for name, leaf in tree.items()}


def test_kernels_lose_the_sparsity_and_nothing_else_changes(attention: networks.Case) -> None:
    case = attention
    result = recipes.sparse(case.apply, case.variables, iter(case.batches), 0.6)
    small = result.compression.variables(case.variables)
    total = sum(leaf.size for leaf in case.variables.values())
    assert sum(zeros(small).values()) == round(0.6 * total)
    assert result.compression.function(case.apply) is case.apply
    for name, leaf in small.items():
        np.testing.assert_array_equal(leaf, jnp.where(leaf != 0, case.variables[name], 0))
        np.testing.assert_array_equal(leaf != 0, result.variables[name] != 0)


def test_what_is_left_makes_up_for_what_is_gone(attention: networks.Case) -> None:
    case, x = attention, attention.test["image"]
    whole, errors = case.apply(case.variables, x), {}
    for name, score in {"by data": None, "by weights": jc.sparse.magnitude}.items():
        small = recipes.sparse(case.apply, case.variables, case.batches, 0.5, score=score).variables
        errors[name] = float(jnp.square(case.apply(small, x) - whole).mean())
    assert errors["by data"] < 0.7 * errors["by weights"]


def test_what_cannot_be_looked_at_is_chosen_by_weights() -> None:
    case = networks.perceptron()
    table = jnp.array([[3.0, -1.0], [0.5, 2.0]])  # looked up and contracted: by `include` alone
    variables = {**case.variables, "table": table}

    def apply(variables: PyTree, x: jax.Array) -> jax.Array:
        seen = variables["table"][jnp.zeros(len(x), int)] @ variables["table"]
        return case.apply(variables, x) + seen.sum()

    given: dict[str, Any] = {"scope": "uniform", "include": ["table"]}
    small = recipes.sparse(apply, variables, case.batches, 0.5, **given).variables
    assert small["table"].tolist() == [[3.0, 0.0], [0.0, 2.0]]
    assert not np.isin(np.asarray(small["b"])[small["b"] != 0], variables["b"]).all()


def test_biases_stay_though_they_have_two_axes() -> None:
    case = networks.perceptron()
    variables = {**case.variables, "a_bias": jnp.full((1, 32), 1e-6)}
    small = recipes.sparse(case.apply, variables, case.batches, 0.5).variables
    assert zeros(small)["a_bias"] == 0 and zeros(small)["b_bias"] == zeros(variables)["b_bias"]


def test_magnitude_is_better_than_random_and_gradients_are_read(attention: networks.Case) -> None:
    case, x = attention, attention.test["image"]
    whole = case.apply(case.variables, x)
    errors = {}
    for name in ("magnitude", "gradient_times_weight", "random"):
        score = getattr(jc.sparse, name)
        small = recipes.sparse(
            case.apply, case.variables, case.batches, 0.5, loss=case.loss, score=score
        ).variables
        errors[name] = float(jnp.square(case.apply(small, x) - whole).mean())
    assert errors["magnitude"] < errors["random"]
    assert errors["gradient_times_weight"] < errors["random"]


def test_the_gradient_is_the_mean_over_batches(attention: networks.Case) -> None:
    case = attention
    gradients = recipes.sparsity._gradients(case.loss, case.variables, case.batches[:3])
    each = [jax.grad(case.loss)(case.variables, batch) for batch in case.batches[:3]]
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, sum(g[name] for g in each) / 3, rtol=1e-4, atol=1e-6)


def test_patterns_half_precision_and_a_graph_without_data() -> None:
    case = networks.perceptron(jnp.bfloat16)
    graph = jc.trace(case.apply, case.variables, case.batches[0]["image"][:1])
    given: dict[str, Any] = {"graph": graph, "scope": "uniform", "pattern": jc.sparse.NofM(2, 4)}
    for batches in (None, case.batches):
        small = recipes.sparse(case.apply, case.variables, batches, 0.5, **given).variables
        fours = np.asarray(small["b"], np.float32).reshape(8, 4, 16)
        assert small["b"].dtype == jnp.bfloat16
        assert (np.count_nonzero(fours, axis=1) <= 2).all()


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no graph": ({"batches": None}, ValueError, "pass batches"),
    "one batch": ({"batches": jnp.ones((3, 6, 3))}, TypeError, r"pass \[batch\]"),
    "no loss": ({"score": jc.sparse.gradient_times_weight}, ValueError, "pass loss="),
    "sparsity": ({"sparsity": 1.0}, ValueError, "sparsity"),
    "scope": ({"scope": "local"}, ValueError, "local"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_refused(attention: networks.Case, name: str) -> None:
    changed, error, words = REFUSED[name]
    given = {"batches": attention.batches, "sparsity": 0.5, **changed}
    batches, sparsity = given.pop("batches"), given.pop("sparsity")
    with pytest.raises(error, match=words):
        recipes.sparse(attention.apply, attention.variables, batches, sparsity, **given)
