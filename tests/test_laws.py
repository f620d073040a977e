"""The laws, each over every toy network: what makes this library trustworthy."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from jaxcompress.artifact import from_spec
from jaxcompress.compression import chain
from jaxcompress.graph import Graph, trace
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import gate, gated, ones, shrink
from tests.laws import (
    TOYS,
    close,
    composed,
    difference,
    gates_of,
    graph_of,
    masked,
    one_group,
    permuted,
    random_keep,
    same,
    scalar,
    shrunk,
    taken_state,
    toy_of,
)
from tests.toys import convolution, norms, tokens
from tests.toys.record import initial

every_toy = pytest.mark.parametrize("name", TOYS)
TRAINED = [name for name in TOYS if toy_of(name).train_apply is not None]
NORMED = [build.__name__ for build in norms.TOYS]
INDEPENDENT = [n for n in TOYS if toy_of(n).independent and toy_of(n).differentiable]
FEW = ["concatenation", "fused_attention", "channel_shuffle", "straight_through"]


def described(graph: Graph) -> dict[str, Any]:
    """Return everything about the groups of a graph that must not depend on how it was traced."""
    return {
        name: [group.width, [(m.path, m.axis, m.indices.tolist()) for m in group.members]]
        for name, group in graph.groups.items()
    }


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


@pytest.mark.parametrize("name", TRAINED)
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


# Law 3: compressions compose, are told by their spec, and name groups alike everywhere.


@every_toy
def test_shrinking_twice_is_shrinking_once(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    # One head or lane left of several would offer what is no keep of the original: its parts.
    first = shrink(graph, random_keep(graph, seed=3, least=2))
    apply, variables = first.function(toy.apply), first.variables(toy.variables)
    smaller = trace(apply, variables, *toy.inputs)
    keep = random_keep(smaller, seed=4)
    second = shrink(smaller, keep)
    once = shrink(graph, composed(graph, first, smaller, keep))
    twice = chain(first, second)
    same(twice.variables(toy.variables), once.variables(toy.variables))
    expected = jax.jit(once.function(toy.apply))(once.variables(toy.variables), *toy.inputs)
    output = jax.jit(twice.function(toy.apply))(twice.variables(toy.variables), *toy.inputs)
    close(output, expected, toy.tolerance)
    _check_specs(toy.variables, first, second)


def _check_specs(variables: Any, first: Any, second: Any) -> None:
    left, right = chain(chain(first, second), chain()), chain(first, chain(second, chain()))
    assert left.spec == right.spec == chain(first, second).spec
    again = from_spec(json.loads(json.dumps(dict(left.spec))))
    assert again.spec == left.spec
    same(again.variables(variables), left.variables(variables))


@pytest.mark.parametrize("name", TRAINED)
def test_training_mode_names_the_same_groups(name: str) -> None:
    toy = toy_of(name)
    graph = trace(toy.function(train=True), toy.variables, *toy.inputs)
    assert described(graph) == described(graph_of(name))


def test_another_process_names_the_same_groups() -> None:
    script = (
        "import json\nfrom tests.laws import TOYS, graph_of\n"
        "from tests.test_laws import described\n"
        "print(json.dumps({name: described(graph_of(name)) for name in TOYS}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    here = {name: described(graph_of(name)) for name in TOYS}
    assert json.loads(result.stdout) == json.loads(json.dumps(here))


# Law 4: the cost at a keep's widths is the cost of the shrunk network.


@every_toy
def test_costs_are_those_of_the_shrunk_network(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    keep = random_keep(graph, seed=5)
    prune = shrink(graph, keep)
    widths = graph.cost.widths(keep)
    variables = prune.variables(toy.variables)
    smaller = trace(prune.function(toy.apply), variables, *toy.inputs)
    assert graph.cost.flops(widths) == smaller.flops < graph.flops
    assert graph.cost.params(widths) == smaller.params < graph.params
    sizes = [leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(variables)]
    assert graph.cost.bytes(widths) == sum(sizes)


@pytest.mark.parametrize("build", [*convolution.WIDTHS, tokens.scanned])
def test_xla_counts_what_the_natively_narrow_network_costs(build: Any) -> None:
    toy, narrow = toy_of(build.__name__), build(2)
    graph = graph_of(build.__name__)
    keep = {n: np.arange(group.width) < group.width // 2 for n, group in graph.groups.items()}
    prune = shrink(graph, keep)
    variables = prune.variables(toy.variables)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, narrow.variables)
    counted = _xla_flops(prune.function(toy.apply), variables, toy.inputs)
    assert counted == _xla_flops(narrow.apply, narrow.variables, narrow.inputs)


def _xla_flops(function: Any, variables: Any, inputs: Any) -> float:
    costs: Any = jax.jit(function).lower(variables, *inputs).compile().cost_analysis()
    return costs["flops"]


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
        np.testing.assert_allclose(jax.grad(loss)(flat), slopes, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", INDEPENDENT)
def test_gates_of_each_example(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    function = gated(graph, toy.apply)
    count = toy.inputs[0].shape[0]
    gates = {n: jnp.linspace(0.5, 1.5, g.width) for n, g in graph.groups.items()}
    gates = {n: value for n, value in gates.items() if n not in toy.shared}
    rows = {n: jnp.broadcast_to(value, (count, len(value))) for n, value in gates.items()}

    def run(gates: Any, *inputs: Any) -> Any:
        def loss(gates: Any) -> Any:
            output = function(toy.variables, gates, *inputs)
            return output.sum(), output

        return jax.grad(loss, has_aux=True)(gates)

    run = jax.jit(run)
    gradients, output = run(rows, *toy.inputs)
    _, expected = run(gates, *toy.inputs)
    close(output, expected, toy.tolerance)
    for example in range(count):
        inputs = [a[example : example + 1] if a.ndim else a for a in toy.inputs]
        alone, _ = run(gates, *inputs)
        close({n: value[example] for n, value in gradients.items()}, alone, toy.tolerance)


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


# Law 7: the order of a group's channels means nothing.


@pytest.mark.parametrize("name", [name for name in TOYS if toy_of(name).symmetric])
def test_permuting_channels_permutes_their_gradients(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    function = gated(graph, toy.apply)

    @jax.jit
    def run(variables: Any) -> Any:
        def loss(gates: Any) -> Any:
            output = function(variables, gates, *toy.inputs)
            return scalar(output), output

        if not toy.differentiable:
            return {}, loss(ones(graph))[1]
        return jax.grad(loss, has_aux=True)(ones(graph))

    gradients, output = run(toy.variables)
    for name, group in graph.groups.items():
        order = np.random.default_rng(0).permutation(group.width)
        moved, again = run(permuted(toy.variables, graph, name, order))
        close(again, output, toy.tolerance)
        if toy.differentiable:
            close(moved, {**gradients, name: gradients[name][order]}, toy.tolerance)


# Law 9: under every transformation of JAX the same values, and one compilation per shape.


@pytest.mark.parametrize("name", FEW)
def test_jit_changes_nothing(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    prune = shrink(graph, random_keep(graph))
    variables, gates = prune.variables(toy.variables), gates_of(graph, random_keep(graph))
    small, function = prune.function(toy.apply), gated(graph, toy.apply)
    close(small(variables, *toy.inputs), jax.jit(small)(variables, *toy.inputs), toy.tolerance)
    close(
        function(toy.variables, gates, *toy.inputs),
        jax.jit(function)(toy.variables, gates, *toy.inputs),
        toy.tolerance,
    )


@pytest.mark.parametrize("name", [*FEW, "flatten", "scanned", "loops", "kernel_left", "low_rank"])
def test_vmap_over_gates_is_a_loop(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    candidates = [gates_of(graph, random_keep(graph, seed)) for seed in range(3)]
    stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *candidates)
    function = gated(graph, toy.apply)
    run = jax.jit(lambda gates: function(toy.variables, gates, *toy.inputs))
    close(
        jax.jit(jax.vmap(run))(stacked), jnp.stack([run(one) for one in candidates]), toy.tolerance
    )


def test_one_compilation_per_shape() -> None:
    toy, graph = toy_of("concatenation"), graph_of("concatenation")
    traced = []

    def counted(variables: Any, images: Any) -> Any:
        traced.append(images.shape)
        return toy.apply(variables, images)

    prune = shrink(graph, random_keep(graph))
    variables, (images,) = prune.variables(toy.variables), toy.inputs
    small = jax.jit(prune.function(counted))
    for batch in (images, images + 1, images[:1], images[:1] + 1):
        small(variables, batch)
    assert len(traced) == 2
    function = jax.jit(gated(graph, counted))
    for seed in range(3):
        function(toy.variables, gates_of(graph, random_keep(graph, seed)), images)
    assert len(traced) == 3


# Law 9, continued: with an axis name, on 8 simulated devices.


class _Synchronised(nn.Module):
    @nn.compact
    def __call__(self, rows: jax.Array, axis_name: str | None) -> jax.Array:
        hidden = nn.Dense(6)(rows)
        hidden = nn.BatchNorm(use_running_average=False, axis_name=axis_name)(hidden)
        return nn.Dense(2)(nn.gelu(hidden))


def _step(variables: Any, rows: Any, axis_name: str | None = None) -> Any:
    """Return the mean squared output and the new statistics, averaged over the devices."""
    output, state = _Synchronised().apply(variables, rows, axis_name, mutable=["batch_stats"])
    loss = jnp.square(output).mean()
    return (loss if axis_name is None else jax.lax.pmean(loss, axis_name)), state


def _on_devices(function: Any, kind: str) -> Any:
    """Run `function(variables, rows)` on 8 devices and return the first device's result."""
    if kind == "pmap":
        run = jax.pmap(function, axis_name="devices", in_axes=(None, 0))
        split = lambda rows: rows.reshape(8, -1, *rows.shape[1:])  # noqa: E731
        return lambda variables, rows: jax.tree.map(lambda a: a[0], run(variables, split(rows)))
    mesh = jax.make_mesh((8,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere, sharded = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("devices")
    return jax.jit(
        jax.shard_map(function, mesh=mesh, in_specs=(everywhere, sharded), out_specs=everywhere)
    )


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("kind", ["pmap", "shard_map"])
def test_devices_give_the_result_of_one(kind: str) -> None:
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(16, 4)), jnp.float32)
    variables = initial(_Synchronised(), rows, None)
    graph = trace(_step, variables, rows, output=lambda result: result[0])
    keep = random_keep(graph)
    prune, gates = shrink(graph, keep), gates_of(graph, keep)
    synchronised = functools.partial(_step, axis_name="devices")

    small = prune.variables(variables)
    expected = prune.function(_step)(small, rows)
    close(_on_devices(prune.function(synchronised), kind)(small, rows), expected, 1e-5)

    expected = gated(graph, _step)(variables, gates, rows)
    function = gated(graph, synchronised)
    run = _on_devices(lambda variables, rows: function(variables, gates, rows), kind)
    close(run(variables, rows), expected, 1e-5)
