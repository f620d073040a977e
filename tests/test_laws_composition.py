"""Laws 3 and 4, over every toy: compressions compose, groups keep their names, costs add up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.artifact import from_spec
from jaxcompress.compression import Compression, chain
from jaxcompress.graph import Graph, trace
from jaxcompress.prune import shrink
from tests.laws import (
    TOYS,
    close,
    every_toy,
    graph_of,
    random_keep,
    same,
    toy_of,
    trained,
)
from tests.toys import convolution, tokens


def described(graph: Graph) -> dict[str, Any]:
    """Return everything about the groups of a graph that must not depend on how it was traced."""
    return {
        name: [group.width, [(m.path, m.axis, m.indices.tolist()) for m in group.members]]
        for name, group in graph.groups.items()
    }


# Law 3: compressions compose, are told by their spec, and name groups alike everywhere.


@every_toy
def test_shrinking_twice_is_shrinking_once(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    # One head or lane left of several would offer what is no keep of the original: its parts.
    first = shrink(graph, random_keep(graph, seed=3, least=2))
    variables = jax.eval_shape(first.variables, toy.variables)
    smaller = trace(first.function(toy.apply), variables, *toy.inputs)
    keep = random_keep(smaller, seed=4)
    second = shrink(smaller, keep)
    once, twice = shrink(graph, composed(graph, first, smaller, keep)), chain(first, second)
    again = _from_json(first, second)

    @jax.jit
    def run(variables: Any, *inputs: Any) -> Any:
        small = [prune.variables(variables) for prune in (twice, once, again)]
        functions = [prune.function(toy.apply) for prune in (twice, once)]
        return small, [f(v, *inputs) for f, v in zip(functions, small, strict=False)]

    (small, expected, told), outputs = run(toy.variables, *toy.inputs)
    same(small, expected)
    same(told, small)
    close(outputs[0], outputs[1], toy.tolerance)


def _from_json(first: Compression, second: Compression) -> Compression:
    """Make a chain again from its spec, which does not depend on how it was put together."""
    left, right = chain(chain(first, second), chain()), chain(first, chain(second, chain()))
    assert left.spec == right.spec == chain(first, second).spec
    again = from_spec(json.loads(json.dumps(dict(left.spec))))
    assert again.spec == left.spec
    return again


def kept_of(prune: Compression) -> dict[tuple[str, int], np.ndarray]:
    """Return the kept indices of each leaf axis that a shrink touches."""
    return {
        (path, int(axis)): np.asarray(kept)
        for path, leaf in prune.spec["leaves"].items()
        for axis, kept in leaf["keep"].items()
    }


def composed(
    graph: Graph, first: Compression, smaller: Graph, keep: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Say as one keep of `graph` what `first`, then `keep` of the smaller graph, leave."""
    left = {
        (path, axis): np.arange(size)
        for path, aval in graph.leaves.items()
        for axis, size in enumerate(aval.shape)
    }
    left.update(kept_of(first))
    for name, mask in keep.items():
        for member in smaller.groups[name].members:
            before = kept_of(first).get((member.path, member.axis))
            lost = member.indices[~mask].ravel()
            lost = lost if before is None else before[lost]
            place = member.path, member.axis
            left[place] = left[place][~np.isin(left[place], lost)]
    return {
        name: np.isin(group.members[0].indices[:, 0], left[group.members[0][:2]])
        for name, group in graph.groups.items()
    }


@pytest.mark.parametrize("name", trained())
def test_training_mode_names_the_same_groups(name: str) -> None:
    toy = toy_of(name)
    graph = trace(toy.function(train=True), toy.variables, *toy.inputs)
    assert described(graph) == described(graph_of(name))


def test_another_process_names_the_same_groups() -> None:
    script = (
        "import json\nfrom tests.laws import TOYS, graph_of\n"
        "from tests.test_laws_composition import described\n"
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
    variables = jax.eval_shape(prune.variables, toy.variables)
    smaller = trace(prune.function(toy.apply), variables, *toy.inputs)
    assert graph.cost.flops(widths) == smaller.flops < graph.flops
    assert graph.cost.params(widths) == smaller.params < graph.params
    sizes = [leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(variables)]
    assert graph.cost.bytes(widths) == sum(sizes)


@pytest.mark.parametrize("build", [*convolution.WIDTHS, tokens.scanned])
def test_xla_counts_what_the_natively_narrow_network_costs(build: Any) -> None:
    toy, narrow = toy_of(build.__name__), build(2)
    graph = graph_of(build.__name__)
    across = {name: group for name, group in graph.groups.items() if not group.is_depth}
    keep = {n: np.arange(group.width) < group.width // 2 for n, group in across.items()}
    prune = shrink(graph, keep)
    variables = prune.variables(toy.variables)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, narrow.variables)
    counted = _xla_flops(prune.function(toy.apply), variables, toy.inputs)
    assert counted == _xla_flops(narrow.apply, narrow.variables, narrow.inputs)


def _xla_flops(function: Any, variables: Any, inputs: Any) -> float:
    costs: Any = jax.jit(function).lower(variables, *inputs).compile().cost_analysis()
    return costs["flops"]
