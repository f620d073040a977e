"""Laws of operations: at the widths of a keep they are those of the shrunk function."""

from __future__ import annotations

from math import prod

import jax
import numpy as np
import pytest

from jaxcompress.graph import Graph, Operation, trace
from jaxcompress.graph.internals import shape_of
from jaxcompress.latency import latency_table, with_latency
from jaxcompress.prune import shrink
from tests.laws import TOYS, graph_of, random_keep, toy_of

# A ragged dot takes what its groups' sizes, which are values, make it take.
every_timed = pytest.mark.parametrize("name", [name for name in TOYS if name != "experts"])


def every_width(width: int) -> range:
    return range(1, width + 1)


def _small(name: str, keep: dict[str, np.ndarray]) -> Graph:
    toy = toy_of(name)
    prune = shrink(graph_of(name), keep)
    variables = jax.eval_shape(prune.variables, toy.variables)
    return trace(prune.function(toy.apply), variables, *toy.inputs)


def _counts(graph: Graph, keep: dict[str, np.ndarray]) -> np.ndarray:
    cost = graph.cost
    return cost.multiplicity @ cost.widths(keep) + cost.fixed


def _seconds(operation: Operation, inputs: tuple[jax.ShapeDtypeStruct, ...]) -> float:
    """Take a time that says which shapes an operation has, operands and result."""
    shapes = [leaf.shape for leaf in (*inputs, jax.eval_shape(operation.run, *inputs))]
    return 1e-6 * sum(weight * prod(shape) for weight, shape in zip((1, 3, 7), shapes, strict=True))


def test_what_takes_a_time_that_depends_on_values_is_refused() -> None:
    graph = graph_of("experts")
    with pytest.raises(ValueError, match=r"but \['.*'\] are not; trace at numbers, without ragged"):
        latency_table(graph, _seconds, device="toy", how="sizes")


@every_timed
def test_operations_at_a_keep_are_those_of_the_shrunk_function(name: str) -> None:
    graph = graph_of(name)
    keep = random_keep(graph)
    small, counts = _small(name, keep), _counts(graph, keep)
    assert len(small.operations) == len(graph.operations)
    for whole, narrow in zip(graph.operations, small.operations, strict=True):
        widths = [int(counts[place]) for place in whole.axes]
        inputs, expected = whole.inputs(widths), narrow.inputs(narrow.widths)
        assert [leaf.shape for leaf in inputs] == [leaf.shape for leaf in expected]
        result = jax.eval_shape(whole.run, *inputs)
        assert result.shape == shape_of(narrow.equation.outvars[0])


@every_timed
def test_latency_is_the_sum_over_the_operations_of_the_shrunk_function(name: str) -> None:
    graph = graph_of(name)
    keep = random_keep(graph)
    table = latency_table(graph, _seconds, device="toy", how="sizes", grid=every_width)
    predicted = with_latency(graph, table).cost.latency(graph.cost.widths(keep))
    small, counts = _small(name, keep), _counts(graph, keep)
    expected = 0.0
    for whole, one in zip(graph.operations, small.operations, strict=True):
        often = one.times
        for place in whole.repeats:
            often *= round(counts[place])
        expected += 1e6 * often * _seconds(one, one.inputs(one.widths))
    np.testing.assert_allclose(float(predicted), expected, rtol=1e-9)
