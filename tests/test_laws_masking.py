"""Laws 1 and 2, over every toy: a masked network and one without those channels are the same."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.artifact import from_spec
from jaxcompress.graph import Graph, trace
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import gate, gated, ones, shrink
from tests.laws import (
    TOYS,
    close,
    difference,
    every_toy,
    gates_of,
    graph_of,
    masked,
    one_group,
    random_keep,
    same,
    shrunk,
    taken_state,
    toy_of,
    trained,
)
from tests.toys import norms

NORMED = [build.__name__ for build in norms.TOYS]


@every_toy
def test_the_groups_are_those_expected(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    assert {n: group.width for n, group in graph.groups.items()} == dict(toy.groups)
    assert not toy.frozen or any(toy.frozen in entry.reason for entry in graph.frozen)


# Law 1: a network with channels masked and one with them removed are the same function.


@every_toy
def test_mask_is_shrink(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    keep = random_keep(graph)
    prune = shrink(graph, keep)
    output, _, gradient, others = masked(name)(toy.variables, gates_of(graph, keep), *toy.inputs)
    whole, *_ = masked(name)(toy.variables, ones(graph), *toy.inputs)
    small_output, _, small_gradient, small_others = shrunk(name, prune)
    assert difference(output, whole) > 1e-3
    close(small_output, output, toy.tolerance)
    close(small_others, others, toy.tolerance)
    if toy.differentiable:
        close(small_gradient, prune.variables(gradient), toy.tolerance)


@pytest.mark.parametrize("name", NORMED)
def test_means_may_divide_by_the_number_in_the_code(name: str) -> None:
    toy = toy_of(name)
    graph = trace(toy.apply, toy.variables, *toy.inputs, means="all")
    keep = random_keep(graph, seed=6, least=3)
    prune, gates = shrink(graph, keep), gates_of(graph, keep)
    small = jax.jit(prune.function(toy.apply))(prune.variables(toy.variables), *toy.inputs)
    output = jax.jit(gated(graph, toy.apply))(toy.variables, gates, *toy.inputs)
    close(small, output, toy.tolerance)
    again = from_spec(json.loads(json.dumps(dict(prune.spec)))).function(toy.apply)
    same(jax.jit(again)(prune.variables(toy.variables), *toy.inputs), small)


@pytest.mark.parametrize("name", norms.NATIVE)
def test_means_divide_by_what_is_left_as_the_code_does(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    prune = shrink(graph, random_keep(graph, seed=7, least=3))
    small = prune.variables(toy.variables)
    expected = jax.jit(toy.apply)(small, *toy.inputs)
    close(jax.jit(prune.function(toy.apply))(small, *toy.inputs), expected, toy.tolerance)


@pytest.mark.parametrize("name", trained())
def test_mask_is_shrink_in_training_mode(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    keep = random_keep(graph, seed=1)
    prune = shrink(graph, keep)
    gates = gates_of(graph, keep)
    output, state, gradient, others = masked(name, train=True)(toy.variables, gates, *toy.inputs)
    small_output, small_state, small_gradient, small_others = shrunk(name, prune, train=True)
    close(small_output, output, 10 * toy.tolerance)
    close(small_others, others, 10 * toy.tolerance)
    close(small_gradient, prune.variables(gradient), 10 * toy.tolerance)
    left = flatten_with_paths(small_state)[0]
    close(left, taken_state(prune, toy.variables, state), toy.tolerance)


@every_toy
def test_each_group_alone_may_be_removed(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    whole, *_ = masked(name)(toy.variables, ones(graph), *toy.inputs)
    for group in graph.groups:
        keep = one_group(graph, group, seed=2)
        prune = shrink(graph, keep)
        output, *_ = masked(name)(toy.variables, gates_of(graph, keep), *toy.inputs)
        small = jax.jit(prune.function(toy.apply))(prune.variables(toy.variables), *toy.inputs)
        assert difference(output, whole) > 1e-5, group
        close(small, output, toy.tolerance)


@every_toy
def test_gates_on_variables_equal_gates_in_the_function(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    accepted = [group for group in graph.groups if _accepts(graph, group)]
    assert toy.gateable is None or tuple(accepted) == toy.gateable
    gates = {group: jnp.linspace(0.0, 1.5, graph.groups[group].width) for group in accepted}
    expected, *_ = masked(name)(toy.variables, {**ones(graph), **gates}, *toy.inputs)
    changed = gate(graph, toy.variables, gates)
    output, *_ = masked(name)(changed, ones(graph), *toy.inputs)
    close(output, expected, toy.tolerance)


def _accepts(graph: Graph, name: str) -> bool:
    return all(
        consumer.path is not None and graph.uses.get(consumer.path) == 1
        for consumer in graph.groups[name].consumers
    )


WITH_BRANCHES = [name for name in TOYS if graph_of(name).optional]


@pytest.mark.parametrize("name", WITH_BRANCHES)
def test_a_whole_branch_may_be_removed(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    for group in graph.optional:
        keep = {group: np.zeros(graph.groups[group].width, bool)}
        prune = shrink(graph, keep)
        variables = prune.variables(toy.variables)
        output, _, gradient, _ = masked(name)(toy.variables, gates_of(graph, keep), *toy.inputs)
        small, _, small_gradient, _ = shrunk(name, prune)
        close(small, output, toy.tolerance)
        if toy.differentiable and name != "channel_softmax":  # a norm has no gradient at 0
            close(small_gradient, prune.variables(gradient), toy.tolerance)
        cost = trace(prune.function(toy.apply), variables, *toy.inputs).cost
        widths = graph.cost.widths(keep)
        for kind in ("flops", "params", "bytes"):
            assert float(cost.of(kind)) == float(graph.cost.of(kind, widths))


# Law 2: gates of one and keeping everything change nothing.


@every_toy
def test_gates_of_one_and_whole_keeps_change_nothing(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    expected = jax.jit(toy.apply)(toy.variables, *toy.inputs)
    output, *_ = masked(name)(toy.variables, ones(graph), *toy.inputs)
    close(output, expected, toy.tolerance)
    whole = shrink(graph, {n: np.ones(group.width, bool) for n, group in graph.groups.items()})
    same(whole.variables(toy.variables), toy.variables)
    same(jax.jit(whole.function(toy.apply))(toy.variables, *toy.inputs), expected)
