"""How far the layers of scans, and branches at the additions where they end, turn a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.compression.observing import visit
from jaxcompress.compression.precision import widened
from jaxcompress.graph import Graph
from jaxcompress.graph.axes import Value
from jaxcompress.graph.branches import Join, joins
from jaxcompress.graph.internals import bind, scan_counts
from jaxcompress.graph.interpret import Node
from jaxcompress.per_device import AxisName, average
from jaxcompress.prune.importance.observed import (
    Channels,
    Counted,
    channels_of,
    mean_over_positions,
)

__all__ = ["mean_turns", "turns"]


def turns(before: jax.Array, after: jax.Array) -> jax.Array:
    """Return 1 - cos of the angle between two arrays along their last axis, in float32.

    Where both are 0 nothing turned; where one is, the cosine counts as 0.

    Example:
        >>> turns(jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.array([[0.0, 2.0], [0.0, 0.0]])).tolist()
        [1.0, 0.0]
    """
    one, other = widened(before), widened(after)
    lengths = [jnp.sqrt(jnp.square(each).sum(-1)) for each in (one, other)]
    length = lengths[0] * lengths[1]
    cosine = (one * other).sum(-1) / jnp.where(length == 0, 1, length)
    return 1 - jnp.where((lengths[0] == 0) & (lengths[1] == 0), 1, cosine)


def mean_turns(
    graph: Graph, apply: Function, *counted: Counted, axis_name: AxisName = None
) -> Function:
    """Make the influences in one batch, `{group: [layers] of a scan, [] of a branch}`."""

    def means(variables: PyTree, inputs: PyTree) -> dict[str, jax.Array]:
        channels = channels_of(graph, apply, variables, inputs, tuple(graph.groups))
        weights = jnp.asarray(counted[0](inputs)) if counted else None
        look = _Look(graph, channels, weights, _ends(graph, channels))
        visit(channels.labelled, variables, inputs, look.wanted, look)
        means = {name: jnp.stack(each).mean(0) for name, each in look.seen.items()}
        return average(means, axis_name)

    return means


def _ends(graph: Graph, channels: Channels) -> dict[int, list[Join]]:
    """Return, by the identity of the addition, where branches end that may go as a whole.

    Of several groups without which a branch is gone, the one whose absence saves most stands for
    it: without the heads of attention, nothing of queries and keys is left.
    """
    names, may_go = channels.names, set(graph.optional)
    ends: dict[int, list[Join]] = {}
    for join in joins(channels.labelled, channels.group):
        groups = [place for place in join.groups if names[place] in may_go]
        if groups and channels.stream(join.node.outputs[0]) is not None:
            most = min(groups, key=lambda place: _flops_without(graph, names[place]))
            ends.setdefault(id(join.node), []).append(join._replace(groups=(most,)))
    return ends


def _flops_without(graph: Graph, name: str) -> float:
    widths = np.where(np.asarray(graph.cost.names) == name, 0, graph.cost.dense)
    return float(graph.cost.flops(widths))


@dataclass(frozen=True)
class _Look:
    """Looks at scans and additions of one run; local to it.

    Attributes:
        graph: whose groups are scored.
        channels: of the function.
        weights: `[examples, positions]`, which positions count.
        ends: the additions at which branches end.
        seen: the influences so far, by group.
    """

    graph: Graph
    channels: Channels
    weights: Array | None
    ends: dict[int, list[Join]]
    seen: dict[str, list[jax.Array]] = field(default_factory=dict)

    def wanted(self, node: Node) -> bool:
        return id(node) in self.ends or bool(self._layers(node))

    def __call__(self, node: Node, arrays: list[Array]) -> Sequence[Array]:
        joined = self.ends.get(id(node))
        return self._scan(node, arrays) if joined is None else self._addition(joined, arrays)

    def _layers(self, node: Node) -> list[tuple[str, np.ndarray]]:
        """Return the depth groups of a scan, and the steps of each of their layers."""
        names, groups = self.channels.names, self.graph.groups
        along = [] if node.steps is None else self.channels.along(node.steps)
        return [(names[n], steps) for n, steps in along if groups[names[n]].is_depth]

    def _addition(self, joined: Sequence[Join], arrays: list[Array]) -> Sequence[Array]:
        names, equation = self.channels.names, joined[0].node.equation
        results = bind(equation, arrays)
        for join in joined:
            without = [jnp.zeros_like(a) if i == join.branch else a for i, a in enumerate(arrays)]
            before = bind(equation, without)[0]
            turned = self._turned(before, results[0], join.node.outputs[0])
            for place in join.groups:
                self.seen.setdefault(names[place], []).append(turned)
        return results

    def _scan(self, node: Node, arrays: list[Array]) -> Sequence[Array]:
        """Run a scan that also hands out how far each step turned its carry."""
        params, body = node.equation.params, jaxpr_as_fun(node.bodies[0].jaxpr)
        constants, carry = scan_counts(node.equation)
        values = node.outputs[:carry]
        streams = [i for i, value in enumerate(values) if self._turns(value, arrays[constants + i])]

        def step(state: list[Array], slices: list[Array]) -> tuple[list[Array], PyTree]:
            outputs = body(*arrays[:constants], *state, *slices)
            each = [self._turned(state[i], outputs[i], values[i]) for i in streams]
            return outputs[:carry], (outputs[carry:], sum(each) / max(len(each), 1))

        options = {name: params[name] for name in ("length", "reverse", "unroll")}
        start, rows = arrays[constants : constants + carry], arrays[constants + carry :]
        state, (stacked, turned) = lax.scan(step, start, rows, **options)
        for name, steps in self._layers(node) if streams else ():
            self.seen.setdefault(name, []).append(turned[steps].mean(1))
        return [*state, *stacked]

    def _turns(self, value: Value, array: Array) -> bool:
        return self.channels.stream(value) is not None and jnp.issubdtype(array.dtype, jnp.inexact)

    def _turned(self, before: Array, after: Array, value: Value) -> jax.Array:
        """Return the mean influence over examples and positions."""
        rows = [self.channels.ordered(array, value) for array in (before, after)]
        return mean_over_positions(turns(*rows)[..., None], self.weights).mean()
