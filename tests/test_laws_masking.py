"""Laws 1 and 2, over every toy: a masked network and one without those channels are the same."""

from __future__ import annotations

import functools
import json

import jax
import numpy as np
import pytest

from jaxcompress.artifact import from_spec
from jaxcompress.compression import Compression
from jaxcompress.graph import Graph, trace
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import gate, gated, ones, shrink
from tests.laws import (
    Run,
    close,
    difference,
    every_toy,
    gates_of,
    graph_of,
    masked,
    random_keep,
    same,
    shrunk,
    taken_state,
    toy_of,
    trained,
)
from tests.toys import norms
from tests.toys.record import BRANCHED

NORMED = [build.__name__ for build in norms.TOYS]


@every_toy
def test_the_groups_are_those_expected(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    assert {n: group.width for n, group in graph.groups.items()} == dict(toy.groups)
    assert bool(graph.optional) == (name in BRANCHED)
    assert not toy.frozen or any(toy.frozen in entry.reason for entry in graph.frozen)


# Law 1: a network with channels masked and one with them removed are the same function.


@every_toy
def test_mask_is_shrink(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    keep = random_keep(graph)
    prune = shrink(graph, keep)
    expected = masked(name)(toy.variables, gates_of(graph, keep), *toy.inputs)
    whole = masked(name)(toy.variables, ones(graph), *toy.inputs)
    assert difference(expected.output, whole.output) > 1e-3
    _check_shrunk(name, prune, shrunk(name, {"": prune})[""], expected, toy.tolerance)


def _check_shrunk(name: str, prune: Compression, small: Run, expected: Run, tol: float) -> None:
    close(small.output, expected.output, tol)
    close(small.inputs, expected.inputs, tol)
    if toy_of(name).differentiable:
        close(small.gradient, prune.variables(expected.gradient), tol)


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
    expected = masked(name, train=True)(toy.variables, gates_of(graph, keep), *toy.inputs)
    small = shrunk(name, {"": prune}, train=True)[""]
    _check_shrunk(name, prune, small, expected, 10 * toy.tolerance)
    left = flatten_with_paths(small.state)[0]
    close(left, taken_state(prune, toy.variables, expected.state), toy.tolerance)


@every_toy
def test_each_group_alone_may_be_removed(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    whole = masked(name)(toy.variables, ones(graph), *toy.inputs).output
    keeps = {group: {group: mask} for group, mask in random_keep(graph, seed=2).items()}
    prunes = {group: shrink(graph, keep) for group, keep in keeps.items()}
    small = shrunk(name, prunes, gradients=False)
    for group, keep in keeps.items():
        output = masked(name)(toy.variables, gates_of(graph, keep), *toy.inputs).output
        assert difference(output, whole) > 1e-5, group
        close({group: small[group].output}, {group: output}, toy.tolerance)


@every_toy
def test_gates_on_variables_equal_gates_in_the_function(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    accepted = [group for group in graph.groups if _accepts(graph, group)]
    assert toy.gateable is None or tuple(accepted) == toy.gateable
    gates = {
        group: np.linspace(0.0, 1.5, graph.groups[group].width, dtype=np.float32)
        for group in accepted
    }
    expected = masked(name)(toy.variables, {**ones(graph), **gates}, *toy.inputs)
    changed = jax.jit(functools.partial(gate, graph))(toy.variables, gates)
    run = masked(name)(changed, ones(graph), *toy.inputs)
    close(run.output, expected.output, toy.tolerance)


def _accepts(graph: Graph, name: str) -> bool:
    return all(
        consumer.path is not None and graph.uses.get(consumer.path) == 1
        for consumer in graph.groups[name].consumers
    )


@pytest.mark.parametrize("name", sorted(BRANCHED))
def test_a_whole_branch_may_be_removed(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    keeps = {g: {g: np.zeros(graph.groups[g].width, bool)} for g in graph.optional}
    prunes = {group: shrink(graph, keep) for group, keep in keeps.items()}
    small = shrunk(name, prunes)
    for group, prune in prunes.items():
        keep = keeps[group]
        expected = masked(name)(toy.variables, gates_of(graph, keep), *toy.inputs)
        close(small[group].output, expected.output, toy.tolerance)
        if toy.differentiable and name != "channel_softmax":  # a norm has no gradient at 0
            close(small[group].gradient, prune.variables(expected.gradient), toy.tolerance)
        variables = jax.eval_shape(prune.variables, toy.variables)
        cost = trace(prune.function(toy.apply), variables, *toy.inputs).cost
        widths = graph.cost.widths(keep)
        for kind in ("flops", "params", "bytes"):
            assert float(cost.of(kind)) == float(graph.cost.of(kind, widths))


# Law 2: gates of one and keeping everything change nothing.


@every_toy
def test_gates_of_one_and_whole_keeps_change_nothing(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    expected = jax.jit(toy.apply)(toy.variables, *toy.inputs)
    run = masked(name)(toy.variables, ones(graph), *toy.inputs)
    close(run.output, expected, toy.tolerance)
    whole = shrink(graph, {n: np.ones(group.width, bool) for n, group in graph.groups.items()})
    same(whole.variables(toy.variables), toy.variables)
    same(jax.jit(whole.function(toy.apply))(toy.variables, *toy.inputs), expected)
