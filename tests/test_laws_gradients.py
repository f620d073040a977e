"""Laws 6 and 7: gradients of gates are what differences say, and channels have no order."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxcompress.graph import Graph
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import gated, ones
from tests.laws import (
    TOYS,
    close,
    difference,
    every_toy,
    graded,
    graph_of,
    masked,
    scalar,
    shares,
    toy_of,
    weights,
)

INDEPENDENT = [n for n in TOYS if toy_of(n).independent and toy_of(n).differentiable]


# Law 6: gradients with respect to gates are what finite differences say, for each example too.


@pytest.mark.parametrize("name", ["concatenation", "fused_attention", "flatten"])
def test_gate_gradients_are_finite_differences(name: str) -> None:
    with jax.enable_x64(True):
        toy, graph = toy_of(name), graph_of(name)
        variables, *inputs = jax.tree.map(
            lambda array: array.astype(jnp.float64), (toy.variables, *toy.inputs)
        )
        function = gated(graph, toy.apply)
        gates = {n: jnp.linspace(0.5, 1.5, g.width) for n, g in graph.groups.items()}
        flat, restore = ravel_pytree(gates)
        loss = jax.jit(lambda flat: scalar(function(variables, restore(flat), *inputs)))
        steps = 1e-5 * jnp.eye(flat.size)
        slopes = jax.vmap(lambda step: (loss(flat + step) - loss(flat - step)) / 2e-5)(steps)
        assert np.abs(slopes).max() > 1e-3
        np.testing.assert_allclose(jax.grad(loss)(flat), slopes, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", INDEPENDENT)
def test_gates_of_each_example(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    count = toy.inputs[0].shape[0]
    order = [*range(count), 0]  # one example more than was traced: the first, with other gates
    inputs = [np.asarray(array)[order] if array.ndim else array for array in toy.inputs]
    rows = {
        group: np.linspace(0.5, np.arange(count + 1) / 4 + 1, len(gate), dtype=np.float32).T
        for group, gate in graded(name).items()
        if group not in toy.shared
    }
    function = gated(graph, toy.apply)

    @jax.jit
    def run(rows: Any, weight: jax.Array, *inputs: Any) -> Any:
        def loss(rows: Any) -> Any:
            output = function(toy.variables, rows, *inputs)
            return (output * weight).sum(), output

        return jax.grad(loss, has_aux=True)(rows)

    whole = masked(name)(toy.variables, ones(graph), *toy.inputs).output
    gradients, output = run(rows, weights(whole)[order], *inputs)
    for row, example in enumerate(order):
        gates = {**ones(graph), **{group: gate[row] for group, gate in rows.items()}}
        share = shares(name, example)
        alone = masked(name)(toy.variables, gates, *toy.inputs, share=share)
        close(np.asarray(output)[row], np.asarray(alone.output)[example], toy.tolerance)
        slopes = {group: np.asarray(gradient)[row] for group, gradient in gradients.items()}
        close(slopes, {group: alone.gates[group] for group in slopes}, toy.tolerance)
    if rows:
        assert any(np.asarray(gradient).any() for gradient in gradients.values())
        assert difference(np.asarray(output)[:count], whole) > 0


def test_gates_of_each_example_need_examples() -> None:
    toy, graph = toy_of("low_rank"), graph_of("low_rank")
    gates = {"down[1]": jnp.ones((3, 3))}
    with pytest.raises(ValueError, match=r"dot_general at .*leaves.py.* has none"):
        gated(graph, toy.apply)(toy.variables, gates, *toy.inputs)


def test_gates_of_each_example_are_as_many_as_the_examples() -> None:
    toy, graph = toy_of("fused_attention"), graph_of("fused_attention")
    gates = {name: jnp.ones((3, group.width)) for name, group in graph.groups.items()}
    with pytest.raises(ValueError, match=r"there are 2 and gates for \[3\]"):
        gated(graph, toy.apply)(toy.variables, gates, *toy.inputs)


@every_toy
def test_which_gates_have_a_gradient_is_known(name: str) -> None:
    groups = graph_of(name).groups
    without = [n for n, group in groups.items() if not group.has_gate_gradient]
    assert tuple(without) == toy_of(name).ungraded


@pytest.mark.parametrize("name", [name for name in TOYS if toy_of(name).ungraded])
def test_gates_inside_a_derivative_rule_refuse_to_be_differentiated_by(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    function = gated(graph, toy.apply)
    loss = lambda gates: scalar(function(toy.variables, gates, *toy.inputs))  # noqa: E731
    for group in toy.ungraded:
        with pytest.raises(ValueError, match=r"act inside the custom derivative at .*derivatives"):
            jax.grad(loss)({group: ones(graph)[group]})


# Law 7: the order of a group's channels means nothing.


@pytest.mark.parametrize("name", [name for name in TOYS if toy_of(name).symmetric])
def test_permuting_channels_permutes_their_gradients(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    expected = masked(name)(toy.variables, ones(graph), *toy.inputs)
    if graded(name) and toy.differentiable:
        assert any(np.asarray(gradient).any() for gradient in expected.gates.values())
    for group, members in graph.groups.items():
        if members.is_depth or group in toy.ungraded:  # layers come one after the other
            continue
        order = np.random.default_rng(0).permutation(members.width)
        moved = masked(name)(permuted(toy.variables, graph, group, order), ones(graph), *toy.inputs)
        close(moved.output, expected.output, toy.tolerance)
        if toy.differentiable:
            slopes = {**expected.gates, group: np.asarray(expected.gates[group])[order]}
            close(moved.gates, slopes, toy.tolerance)


def permuted(variables: Any, graph: Graph, name: str, order: np.ndarray) -> Any:
    """Put the channels of a group into another order, in every member."""
    leaves_, treedef = flatten_with_paths(variables)
    for member in graph.groups[name].members:
        places = np.arange(leaves_[member.path].shape[member.axis])
        places[member.indices] = member.indices[order]
        leaves_[member.path] = np.take(np.asarray(leaves_[member.path]), places, axis=member.axis)
    return jax.tree.unflatten(treedef, list(leaves_.values()))
