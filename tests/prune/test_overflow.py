"""What removed channels hold changes nothing: values that overflow, infinity, NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress import gated, shrink, trace
from jaxcompress.prune import gate
from tests.laws import close

KEEP = np.array([True, False, True, True, False])
X = jax.random.normal(jax.random.key(0), (3, 4))
GATES = {
    "gates": jnp.asarray(KEEP, jnp.float32),
    "gates of each example": jnp.broadcast_to(jnp.asarray(KEEP, jnp.float32), (3, 5)),
}
every_gates = pytest.mark.parametrize("gates", GATES.values(), ids=GATES)


def hidden(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ variables["e"]) @ variables["a"] + variables["c"]


def shifted(variables: Any, x: jax.Array) -> jax.Array:
    """Return exponentials by a jitted function that sums over nothing."""
    h = hidden(variables, x)
    powers = jax.jit(jnp.exp2)(h - h.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True) @ variables["b"]


NETWORKS: dict[str, Callable[[Any, jax.Array], jax.Array]] = {
    "softmax": lambda v, x: jax.nn.softmax(hidden(v, x)) @ v["b"],
    "log_softmax": lambda v, x: jax.nn.log_softmax(hidden(v, x)) @ v["b"],
    "logsumexp": lambda v, x: jax.nn.logsumexp(hidden(v, x), -1, keepdims=True) * v["b"][0, 0],
    "shifted": shifted,
    "relu": lambda v, x: jax.nn.relu(hidden(v, x)) @ v["b"],
}


def variables_of(removed: float, dtype: Any) -> Any:
    keys = jax.random.split(jax.random.key(1), 4)
    shapes = {"e": (4, 6), "a": (6, 5), "b": (5, 2), "c": (5,)}
    drawn = {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}
    offset = jnp.where(KEEP, drawn["c"], removed)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), {**drawn, "c": offset})


def _agree(name: str, variables: Any, gates: jax.Array, rounding: float) -> None:
    """Hold that outputs and gradients with gates are those of the shrunk network."""
    apply, x = NETWORKS[name], X.astype(variables["a"].dtype)
    usual = variables_of(0.0, x.dtype)
    graph = trace(apply, usual, x)
    prune = shrink(graph, {"a[1]": KEEP})
    group, other = "a[1]", {"e[1]": jnp.ones(gates.shape[:-1] + (6,))}

    def loss(variables: Any, gates: Any) -> jax.Array:
        return jnp.sin(gated(graph, apply)(variables, gates, x).astype(jnp.float32)).sum()

    small = prune.function(lambda v: jnp.sin(apply(v, x).astype(jnp.float32)).sum())
    value, slopes = jax.jit(jax.value_and_grad(loss, (0, 1)))(variables, {group: gates, **other})
    expected, right = jax.jit(jax.value_and_grad(small))(prune.variables(variables))
    close(value, expected, rounding)
    close(prune.variables(slopes[0]), right, rounding)
    finite = variables_of(0.0, x.dtype)
    desired = jax.grad(loss, 1)(finite, {group: gates, **other})
    close(slopes[1]["e[1]"], desired["e[1]"], rounding)
    close(slopes[1][group][..., KEEP], desired[group][..., KEEP], rounding)
    assert jnp.isfinite(slopes[1][group]).all()


@every_gates
@pytest.mark.parametrize("name", NETWORKS)
def test_removed_logits_that_are_far_larger(name: str, gates: jax.Array) -> None:
    _agree(name, variables_of(300.0, jnp.float32), gates, 1e-5)


@every_gates
@pytest.mark.parametrize("name", ["softmax", "logsumexp"])
def test_removed_logits_in_half_precision(name: str, gates: jax.Array) -> None:
    _agree(name, variables_of(40.0, jnp.float16), gates, 2e-2)


@every_gates
@pytest.mark.parametrize("removed", [np.nan, np.inf, -np.inf])
def test_removed_channels_that_are_not_finite(removed: float, gates: jax.Array) -> None:
    _agree("relu", variables_of(removed, jnp.float32), gates, 1e-5)
    for name in ("softmax", "logsumexp"):
        apply, variables = NETWORKS[name], variables_of(removed, jnp.float32)
        graph = trace(apply, variables, X)
        prune = shrink(graph, {"a[1]": KEEP})
        output = gated(graph, apply)(variables, {"a[1]": gates}, X)
        close(output, prune.function(apply)(prune.variables(variables), X), 1e-5)


def test_gates_of_kernels() -> None:
    apply, variables = NETWORKS["relu"], variables_of(0.0, jnp.float32)
    graph = trace(apply, variables, X)
    broken = {**variables, "b": jnp.where(KEEP[:, None], variables["b"], jnp.nan)}
    made = gate(graph, broken, {"a[1]": GATES["gates"]})
    close(made, gate(graph, variables, {"a[1]": GATES["gates"]}), 0.0)


def test_a_layer_of_gate_zero_that_overflows_and_a_state_that_starts_at_infinity() -> None:
    """An attention's running maximum starts at -inf."""

    def apply(variables: Any, x: jax.Array) -> jax.Array:
        def step(state: Any, kernel: jax.Array) -> Any:
            most, h = state
            h = h + jnp.exp(h @ kernel)
            return (jnp.maximum(most, h), h), None

        start = jnp.full_like(x, -jnp.inf), x
        (most, h), _ = jax.lax.scan(step, start, variables["layers"])
        return most + h @ variables["b"]

    drawn = 0.1 * jax.random.normal(jax.random.key(2), (4, 4, 4))
    variables = {"layers": drawn.at[2].set(1e4), "b": drawn[0]}
    graph = trace(apply, variables, X)
    (name,) = [name for name, group in graph.groups.items() if group.is_depth]
    keep = {name: np.array([True, True, False, True])}
    prune = shrink(graph, keep)
    expected = prune.function(apply)(prune.variables(variables), X)
    assert jnp.isfinite(expected).all() and not jnp.isfinite(apply(variables, X)).all()
    for gates in (jnp.asarray(keep[name], float), jnp.ones((3, 4)) * keep[name]):
        close(gated(graph, apply)(variables, {name: gates}, X), expected, 1e-6)
    tame = {**variables, "layers": drawn}
    one = lambda gates: gated(graph, apply)(tame, {name: gates}, X).sum()  # noqa: E731
    close(gated(graph, apply)(tame, {name: jnp.ones(4)}, X), apply(tame, X), 1e-6)
    assert jnp.isfinite(jax.grad(one)(jnp.ones(4))).all()
