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
from tests.toys.record import draw, rows

KEEP = np.array([True, False, True, True, False])
X: Any = np.asarray(rows(3, 4))
GATES = {
    "gates": KEEP.astype(np.float32),
    "gates of each example": np.broadcast_to(KEEP.astype(np.float32), (3, 5)),
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
    drawn = jax.tree.map(np.asarray, draw(1, {"e": (4, 6), "a": (6, 5), "b": (5, 2), "c": (5,)}))
    drawn["c"] = np.where(KEEP, drawn["c"], removed)
    return {name: leaf.astype(dtype) for name, leaf in drawn.items()}


def _agree(name: str, variables: Any, gates: np.ndarray, rounding: float) -> None:
    """Hold that outputs and gradients with gates are those of the shrunk network."""
    apply, x = NETWORKS[name], X.astype(variables["a"].dtype)
    usual = variables_of(0.0, x.dtype)
    graph = trace(apply, usual, x)
    prune = shrink(graph, {"a[1]": KEEP})
    group, other = "a[1]", {"e[1]": np.ones(gates.shape[:-1] + (6,), np.float32)}

    def loss(variables: Any, gates: Any) -> jax.Array:
        return jnp.sin(gated(graph, apply)(variables, gates, x).astype(jnp.float32)).sum()

    small = prune.function(lambda v: jnp.sin(apply(v, x).astype(jnp.float32)).sum())

    @jax.jit
    def run(variables: Any) -> Any:
        value, (slopes, by_gate) = jax.value_and_grad(loss, (0, 1))(
            variables, {group: gates, **other}
        )
        shrunk = jax.value_and_grad(small)(prune.variables(variables))
        return (value, prune.variables(slopes)), shrunk, by_gate

    left, right, by_gate = jax.tree.map(np.asarray, run(variables))
    for masked, shrunk in zip(left, right, strict=True):
        close(masked, shrunk, rounding)
    _, _, desired = jax.tree.map(np.asarray, run(usual))
    close(by_gate["e[1]"], desired["e[1]"], rounding)
    close(by_gate[group][..., KEEP], desired[group][..., KEEP], rounding)
    assert np.isfinite(by_gate[group]).all()


@every_gates
@pytest.mark.parametrize("name", NETWORKS)
def test_removed_logits_that_are_far_larger(name: str, gates: np.ndarray) -> None:
    _agree(name, variables_of(300.0, jnp.float32), gates, 1e-5)


@every_gates
@pytest.mark.parametrize("name", ["softmax", "logsumexp"])
def test_removed_logits_in_half_precision(name: str, gates: np.ndarray) -> None:
    _agree(name, variables_of(40.0, jnp.float16), gates, 2e-2)


@every_gates
@pytest.mark.parametrize("removed", [np.nan, np.inf, -np.inf])
def test_removed_channels_that_are_not_finite(removed: float, gates: np.ndarray) -> None:
    _agree("relu", variables_of(removed, jnp.float32), gates, 1e-5)
    for name in ("softmax", "logsumexp"):
        apply, variables = NETWORKS[name], variables_of(removed, jnp.float32)
        graph = trace(apply, variables, X)
        prune = shrink(graph, {"a[1]": KEEP})
        output, small = jax.jit(
            lambda variables, graph=graph, prune=prune, apply=apply: (
                gated(graph, apply)(variables, {"a[1]": gates}, X),
                prune.function(apply)(prune.variables(variables), X),
            )
        )(variables)
        close(output, small, 1e-5)


def test_gates_of_kernels() -> None:
    apply, variables = NETWORKS["relu"], variables_of(0.0, jnp.float32)
    graph = trace(apply, variables, X)
    broken = {**variables, "b": np.where(KEEP[:, None], variables["b"], np.float32("nan"))}
    made = jax.jit(lambda variables: gate(graph, variables, {"a[1]": GATES["gates"]}))
    close(made(broken), made(variables), 0.0)


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

    drawn = 0.1 * np.asarray(rows(4, 4, 4, seed=2))
    variables = {"layers": np.where(np.arange(4)[:, None, None] == 2, 1e4, drawn), "b": drawn[0]}
    variables = {name: leaf.astype(np.float32) for name, leaf in variables.items()}
    graph = trace(apply, variables, X)
    (name,) = [name for name, group in graph.groups.items() if group.is_depth]
    keep = {name: np.array([True, True, False, True])}
    prune = shrink(graph, keep)
    masked, dense = jax.jit(gated(graph, apply)), jax.jit(apply)
    expected = jax.jit(prune.function(apply))(prune.variables(variables), X)
    assert np.isfinite(expected).all() and not np.isfinite(dense(variables, X)).all()
    kept = keep[name].astype(np.float32)
    for gates in (kept, np.broadcast_to(kept, (3, 4))):
        close(masked(variables, {name: gates}, X), expected, 1e-6)
    tame, ones = {**variables, "layers": drawn}, np.ones(4, np.float32)
    close(masked(tame, {name: ones}, X), dense(tame, X), 1e-6)
    slopes = jax.jit(jax.grad(lambda gates: masked(tame, {name: gates}, X).sum()))(ones)
    assert np.isfinite(slopes).all()
