"""Running statistics in half precision are those of float32, rounded once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from jaxcompress import Budget, recipes
from jaxcompress.adapters import equinox_statistics, from_equinox, from_nnx
from jaxcompress.paths import flatten_with_paths
from jaxcompress.training import Running, reestimate

KEY = jax.random.key(0)
BATCHES = 2 * jax.random.normal(jax.random.key(1), (3, 32, 4)) + 3
Network = tuple[Callable[..., Any], Any, list[Running] | None]

every_half = pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])


def linen() -> Network:
    norm = nn.BatchNorm(use_running_average=False)
    variables = norm.init(KEY, BATCHES[0])
    return lambda v, x, key: norm.apply(v, x, mutable=["batch_stats"]), variables, None


def of_nnx() -> Network:
    return *from_nnx(nnx.BatchNorm(4, rngs=nnx.Rngs(0)), train=True), None


def equinox() -> Network:
    pair = eqx.nn.make_with_state(eqx.nn.BatchNorm)(4, "batch", mode="batch")
    return *from_equinox(pair, train=True), equinox_statistics(pair)


def hand_written() -> Network:
    def train_apply(variables: Any, x: jax.Array, key: jax.Array) -> Any:
        update = lambda old, new: (0.99 * old + 0.01 * new.astype(old.dtype)).astype(old.dtype)  # noqa: E731
        state = {"mean": update(variables["mean"], x.mean(0))}
        return x, {**state, "var": update(variables["var"], x.var(0))}

    return train_apply, {"mean": jnp.full(4, 7.0), "var": jnp.full(4, 7.0)}, None


def halved(variables: Any, dtype: Any) -> Any:
    is_float = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if is_float(leaf) else leaf, variables)


@every_half
@pytest.mark.parametrize("make", [linen, of_nnx, equinox, hand_written])
def test_statistics_in_half_precision_are_those_of_float32(
    make: Callable[[], Network], dtype: Any
) -> None:
    train_apply, variables, statistics = make()
    batches = BATCHES.astype(dtype)  # Equinox takes no other than its state's
    given: dict[str, Any] = {"key": KEY, "statistics": statistics}
    new = reestimate(train_apply, halved(variables, dtype), batches, **given)
    expected = reestimate(train_apply, variables, batches.astype(jnp.float32), **given)
    leaves, right = flatten_with_paths(new)[0], flatten_with_paths(halved(expected, dtype))[0]
    assert {p: leaf.dtype for p, leaf in leaves.items()} == {p: x.dtype for p, x in right.items()}
    # Equinox rounds each batch's statistics and their share before they meet the running ones.
    eps = float(jnp.finfo(dtype).eps) * (2 if make is equinox else 1)
    for path, leaf in leaves.items():
        np.testing.assert_allclose(
            np.asarray(leaf, float), np.asarray(right[path], float), rtol=eps, err_msg=path
        )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_training_function_that_rounds_is_refused(dtype: Any) -> None:
    train_apply, variables, _ = hand_written()

    def rounded(half: Any, back: Any) -> Callable[..., Any]:
        """Update statistics in half precision, whatever they come in."""

        def apply(variables: Any, x: jax.Array, key: jax.Array) -> Any:
            logits, state = train_apply(halved(variables, half), x, key)
            return logits, halved(state, back)

        return apply

    for half in (jnp.bfloat16, jnp.float16):
        with pytest.raises(ValueError, match=r"rounds mean \(b?float16\), var .*as they are"):
            reestimate(rounded(half, half), halved(variables, dtype), BATCHES, key=KEY)
        hidden = rounded(half, jnp.float32)
        with pytest.raises(ValueError, match=r"of \['mean', 'var'\] is another, or is rounded"):
            reestimate(hidden, halved(variables, dtype), BATCHES, key=KEY)
        renew = lambda x, hidden=hidden: reestimate(hidden, variables, x, key=KEY)  # noqa: E731
        assert all(jnp.isnan(leaf).all() for leaf in jax.tree.leaves(jax.jit(renew)(BATCHES)))


def test_a_training_function_that_takes_half_precision_alone_is_refused() -> None:
    def train_apply(variables: Any, x: jax.Array, key: jax.Array) -> Any:
        first = jax.lax.select(jnp.array(False), x.mean(0), variables["mean"])
        return x, {"mean": first, "var": first}

    variables = {"mean": jnp.ones(4, jnp.float16), "var": jnp.ones(4, jnp.float16)}
    with pytest.raises(
        TypeError, match="does not take .'mean', 'var'. in float32 .*cast them back"
    ):
        reestimate(train_apply, variables, BATCHES.astype(jnp.float16), key=KEY)


def test_a_variance_above_what_float16_holds_is_refused() -> None:
    train_apply, variables, _ = hand_written()
    with pytest.raises(ValueError, match=r"\['var'\] are more than it holds; cast these leaves"):
        reestimate(train_apply, halved(variables, jnp.float16), 200 * BATCHES, key=KEY)


@every_half
def test_low_rank_renews_statistics_in_half_precision(dtype: Any) -> None:
    def apply(variables: Any, x: jax.Array, train: bool = False) -> Any:
        h = x @ variables["a"]
        mean, var = (h.mean(0), h.var(0)) if train else (variables["mean"], variables["var"])
        out = jax.nn.relu((h - mean) / jnp.sqrt(var + 1e-5)) @ variables["b"]
        old = variables["mean"], variables["var"]
        state = [0.99 * one + 0.01 * new for one, new in zip(old, (mean, var), strict=True)]
        return (out, dict(zip(("mean", "var"), state, strict=True))) if train else out

    first, second = jax.random.split(KEY)
    variables = {"a": jax.random.normal(first, (4, 8)), "b": jax.random.normal(second, (8, 8))}
    variables = {**variables, "mean": jnp.full(8, 3.0), "var": jnp.full(8, 9.0)}
    result = recipes.low_rank(
        apply,
        halved(variables, dtype),
        list(BATCHES.astype(dtype)),
        Budget(flops=0.9),
        key=KEY,
        train_apply=lambda v, x, key: apply(v, x, train=True),
        ranks={"b": 3},
    )
    hidden = np.asarray(BATCHES.reshape(-1, 4), float) @ np.asarray(variables["a"], float)
    for name, right in (("mean", hidden.mean(0)), ("var", hidden.var(0))):
        assert result.variables[name].dtype == dtype
        error = np.asarray(result.variables[name], float) - right
        assert np.linalg.norm(error) < 0.03 * np.linalg.norm(right)
