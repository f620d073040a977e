"""Renewed statistics are never farther from the whole network's answers than either end."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress import recipes, training
from jaxcompress.recipes.distances import distance_of

KEY = jax.random.key(0)


def train_apply(variables: Any, x: jax.Array, key: jax.Array) -> Any:
    mean, var = x.mean(0), x.var(0)
    state = {
        "mean": 0.9 * variables["mean"] + 0.1 * mean,
        "var": 0.9 * variables["var"] + 0.1 * var,
    }
    return (x - mean) / jnp.sqrt(var + 1e-3) @ variables["b"], state


def apply(variables: Any, x: jax.Array) -> jax.Array:
    return (x - variables["mean"]) / jnp.sqrt(variables["var"] + 1e-3) @ variables["b"]


@pytest.fixture(scope="module")
def whole() -> Any:
    b = jax.random.normal(KEY, (5, 3))
    return {"b": b, "mean": jnp.full(5, 0.2), "var": jnp.full(5, 1.1)}


@pytest.fixture(scope="module")
def batches() -> list[jax.Array]:
    return list(0.2 + 1.05 * jax.random.normal(jax.random.key(1), (4, 16, 5)))


def renewed(variables: Any, whole: Any, batches: Any, **options: Any) -> Any:
    teacher = apply, whole
    options = {"train_apply": train_apply, "key": KEY, **options}
    return recipes.renew(apply, variables, batches, teacher, **options)


def test_statistics_that_are_right_stay_bit_by_bit(whole: Any, batches: Any) -> None:
    new = renewed(whole, whole, batches)
    assert all(np.array_equal(new[name], whole[name]) for name in whole)


def test_statistics_that_are_wrong_are_re_estimated(whole: Any, batches: Any) -> None:
    wrong = {**whole, "mean": whole["mean"] + 3}
    new = renewed(wrong, whole, batches, size=16)
    expected = training.reestimate(train_apply, wrong, batches, key=KEY)
    np.testing.assert_allclose(new["mean"], expected["mean"], rtol=1e-6)
    np.testing.assert_array_equal(new["b"], whole["b"])


def test_a_half_is_taken_in_float32(whole: Any, batches: Any) -> None:
    wrong = {**whole, "mean": (whole["mean"] + 0.3).astype(jnp.bfloat16)}
    new = renewed(wrong, whole, batches, size=16, shares=(0.5, 0.5))
    end = training.reestimate(train_apply, wrong, batches, key=KEY)["mean"].astype(jnp.float32)
    expected = (wrong["mean"].astype(jnp.float32) + end) / 2
    assert new["mean"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(new["mean"], expected.astype(jnp.bfloat16))


def test_statistics_that_are_not_finite_are_never_the_nearest(whole: Any, batches: Any) -> None:
    broken = {**whole, "var": jnp.full(5, -5.0)}  # of whose root answers are NaN
    new = renewed(broken, whole, batches, size=16)
    assert bool((new["var"] > 0).all())
    with pytest.raises(ValueError, match="these are .*nan.* for the shares"):
        renewed(broken, whole, batches, size=16, shares=(0.0, 0.0))
    with pytest.raises(ValueError, match="shares must be"):
        renewed(whole, whole, batches, shares=(0.5, 2.0))


@pytest.mark.parametrize("distance", ["classes", "values"])
@pytest.mark.parametrize("off", [0.0, 0.05, 0.15, 0.5])
def test_what_is_chosen_is_the_nearest(whole: Any, batches: Any, distance: Any, off: float) -> None:
    wrong = {**whole, "mean": whole["mean"] + off}
    new = renewed(wrong, whole, batches, distance=distance, size=16)
    ends = [wrong, training.reestimate(train_apply, wrong, batches, key=KEY)]
    x = jnp.concatenate(batches)

    def far(variables: Any) -> float:
        compared = distance_of(distance)(apply(variables, x), apply(whole, x))
        return float(compared.mean())

    assert far(new) <= min(map(far, ends)) * (1 + 1e-5) + 1e-9
