"""Derivative rules and rematerialisation survive a shrink, in value and in form."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.graph import trace
from jaxcompress.prune import gated, shrink
from jaxcompress.prune.importance import fisher, magnitude, meta, taylor
from tests.laws import close, scalar
from tests.toys.record import draw

ROWS = jnp.ones((3, 4))


@jax.custom_vjp
def straight_through(hidden: jax.Array) -> jax.Array:
    """Round, but pass 4 times the gradient on: inlined, it would be 0."""
    return jnp.round(hidden)


straight_through.defvjp(lambda h: (jnp.round(h), None), lambda _, ct: (4 * ct,))


@jax.custom_jvp
def leaking(hidden: jax.Array) -> jax.Array:
    return jnp.maximum(hidden, 0.0)


@leaking.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return leaking(primals[0]), jnp.where(primals[0] > 0, 1.0, 0.25) * tangents[0]


def _shrunk(activation: Any, kernel: jax.Array) -> tuple[Any, Any]:
    """Return a network with an activation between ones, shrunk from 6 to 2 channels."""
    variables = {"first": kernel, "second": jnp.ones((6, 1))}

    def apply(variables: Any, rows: jax.Array) -> jax.Array:
        return activation(rows @ variables["first"]) @ variables["second"]

    graph = trace(apply, variables, ROWS)
    prune = shrink(graph, {"first[1]": np.arange(6) < 2})
    return prune.function(apply), prune.variables(variables)


@pytest.mark.parametrize(
    ("activation", "kernel", "slope"),
    [
        (straight_through, 0.3, 4.0),
        (leaking, -1.0, 0.25),
        (jax.nn.relu, 0.0, 0.0),
        (jax.checkpoint(straight_through), 0.3, 4.0),
        (jax.vmap(jax.jit(straight_through)), 0.3, 4.0),
    ],
)
def test_the_users_derivative_is_kept(activation: Any, kernel: float, slope: float) -> None:
    function, variables = _shrunk(activation, jnp.full((4, 6), kernel))
    gradient = jax.grad(lambda variables: function(variables, ROWS).sum())(variables)["first"]
    np.testing.assert_allclose(gradient, jnp.full((4, 2), 3 * slope))


def test_rematerialisation_keeps_its_policy() -> None:
    policy = jax.checkpoint_policies.dots_saveable
    activation = jax.checkpoint(lambda hidden: jnp.sin(jnp.tanh(hidden)), policy=policy)
    function, variables = _shrunk(activation, jnp.ones((4, 6)))
    equations = jax.make_jaxpr(function)(variables, ROWS).jaxpr.eqns
    (remat,) = [e for e in equations if "policy" in e.params]
    assert remat.params["policy"] is policy
    assert remat.invars[0].aval.shape == (3, 2)


@jax.custom_vjp
def dense(hidden: jax.Array, kernel: jax.Array) -> jax.Array:
    """A product whose derivative rule says what JAX would."""
    return hidden @ kernel


dense.defvjp(
    lambda hidden, kernel: (hidden @ kernel, (hidden, kernel)),
    lambda saved, ct: (ct @ saved[1].T, saved[0].T @ ct),
)

SHAPES = {"first": (4, 6), "second": (6, 5), "third": (5, 2)}


def _network(product: Any) -> Any:
    def apply(variables: Any, rows: jax.Array) -> jax.Array:
        hidden = jnp.tanh(product(rows, variables["first"]))
        hidden = jnp.tanh(product(hidden, variables["second"]))
        return hidden @ variables["third"]

    return apply


def test_gates_between_zero_and_one_scale_the_users_gradient() -> None:
    variables = draw(3, SHAPES)
    graph = trace(_network(dense), variables, ROWS)
    gates = {name: jnp.linspace(0.0, 1.5, group.width) for name, group in graph.groups.items()}

    def gradient(product: Any) -> Any:
        function = gated(graph, _network(product))
        return jax.grad(lambda variables: scalar(function(variables, gates, ROWS)))(variables)

    close(gradient(dense), gradient(jnp.matmul), 1e-6)


def test_scores_by_gradients_leave_out_what_has_none() -> None:
    variables = draw(3, SHAPES)
    graph = trace(_network(dense), variables, ROWS)
    assert list(graph.groups) == ["first[1]", "second[1]"] and graph.graded == ["second[1]"]
    loss = lambda variables, rows: jnp.square(_network(dense)(variables, rows)).mean()  # noqa: E731
    batches = draw(4, {"rows": (2, 3, 4)})["rows"]
    assert list(taylor(graph, loss, variables, batches)) == ["second[1]"]
    assert list(fisher(graph, loss, variables, batches, key=jax.random.key(0))) == ["second[1]"]
    assert list(meta(graph, loss, variables, batches[:, None], batches)) == ["second[1]"]
    assert list(magnitude(graph, variables)) == ["first[1]", "second[1]"]
    with pytest.raises(ValueError, match=r"first\[1\].* act inside .*test_derivatives.py"):
        fisher(graph, loss, variables, batches, key=jax.random.key(0), groups=["first[1]"])
