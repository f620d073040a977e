"""Which channel every index of a function's arrays belongs to, and means over what is no channel.

What scores that look at activations share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.compression.precision import exact
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph
from jaxcompress.graph.apply import carry
from jaxcompress.graph.axes import Axis, Value
from jaxcompress.graph.program import LabelledProgram, example_labels, label_program, read
from jaxcompress.prune.gate_numbers import FIRST, carried_inputs, gate_names, gate_numbers

__all__ = ["Channels", "Counted", "channels_of", "mean_over_examples", "mean_over_positions"]

Counted: TypeAlias = Callable[[Batch], Array]
"""`counted(inputs) -> [examples, positions]`, which positions count: 1, or 0 for padding."""


@dataclass(frozen=True, eq=False)
class Channels:
    """A function's labelled program, and the channel of each label.

    Attributes:
        labelled: the reading.
        names: of the groups that are looked at.
        group: `int[labels]`, the position of the label's group among the names, -1 for none.
        channel: `int[labels]`, the channel of this group.
    """

    labelled: LabelledProgram
    names: tuple[str, ...]
    group: np.ndarray
    channel: np.ndarray

    @cached_property
    def _is_example(self) -> np.ndarray:
        labelling = self.labelled.labelling
        components = labelling.components()
        return np.isin(components, components[example_labels(labelling)])

    def examples(self, value: Value) -> int | None:
        """Return the dimension of the examples of an array; None where it has none."""
        for dimension, axis in enumerate(value.axes):
            if axis.labels is not None and self._is_example[axis.labels].all():
                return dimension
        return None

    def stream(self, value: Value) -> int | None:
        """Return the last dimension that may hold channels; None where none may."""
        for dimension in reversed(range(len(value.axes))):
            labels = value.axes[dimension].labels
            if labels is not None and not self._is_example[labels].any():
                return dimension
        return None

    def ordered(self, array: Array, value: Value) -> jax.Array:
        """Return an array with a stream as `[examples, positions..., channels]`.

        Raises:
            ValueError: if no dimension may hold channels.
        """
        stream, examples = self.stream(value), self.examples(value)
        if stream is None:
            raise ValueError("a stream runs along an axis of channels, but this array has none")
        if examples is None:
            return jnp.moveaxis(array, stream, -1)[None]
        return jnp.moveaxis(array, (examples, stream), (0, -1))

    def along(self, axis: Axis) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the groups that lie on an axis, and the indices `[width, multiplicity]` of each."""
        if axis.labels is None:
            return
        groups, channels = self.group[axis.labels], self.channel[axis.labels]
        for number in np.unique(groups[groups >= 0]).tolist():
            indices = np.flatnonzero(groups == number)
            ordered = indices[np.argsort(channels[indices], kind="stable")]
            yield number, ordered.reshape(len(np.unique(channels[indices])), -1)


def channels_of(
    graph: Graph, apply: Function, variables: PyTree, inputs: PyTree, groups: tuple[str, ...]
) -> Channels:
    """Read `apply(variables, inputs)`, a function of the variables of a graph, with its channels.

    Raises:
        ValueError: if it ties channels of different groups to each other.
    """
    program = read(apply, variables, (inputs,))
    labelled = label_program(program, False, graph.batch_axis, carried_inputs(graph, program))
    names, known = gate_names(graph, groups), gate_numbers(graph, groups)
    numbers = carry(labelled, known, lambda v: names[v - FIRST] if v >= FIRST else "no channel")
    ends = np.cumsum([0, *(graph.groups[name].width for name in groups)])
    places = numbers - FIRST
    group = np.where(places >= 0, np.searchsorted(ends, places, side="right") - 1, -1)
    return Channels(labelled, groups, group, np.where(places >= 0, places - ends[group], -1))


def mean_over_positions(array: Array, counted: Array | None) -> jax.Array:
    """Return the mean over all axes but the first and the last one, `[examples, last]`.

    Args:
        array: `[examples, positions..., last]`.
        counted: weights `[examples, positions]` of the first two axes, where these have this shape;
            None counts everything.
    """
    if counted is not None and array.ndim > 2 and array.shape[:2] == counted.shape:
        weights = counted.astype(array.dtype)
        share = weights / jnp.maximum(weights.sum(1, keepdims=True), 1)
        array = jnp.einsum("ep,ep...->e...", share, array, precision="highest")
    return array.mean(tuple(range(1, array.ndim - 1)))


def mean_over_examples(
    compiled: Callable[[PyTree, Batch], Mapping[str, Array]],
    graph: Graph,
    variables: PyTree,
    batches: Iterable[Batch],
    what: str,
) -> dict[str, Any]:
    """Return the mean over batches, weighted by their examples, of what one program gives of each.

    Args:
        compiled: `(variables, inputs) -> {group: mean over the examples}`.
        graph: of a function of the same inputs.
        variables: given to it.
        batches: inputs, read once; only means are kept, in float64; traced ones in float32.
        what: is measured, for errors.

    Raises:
        ValueError: if there is no batch or no example, or a mean is not finite.
        TypeError: if batches is a mapping.
    """
    if isinstance(batches, Mapping):
        raise TypeError("batches is an iterable of batches, but this is one mapping; pass [batch]")
    require_finite("variables", variables, "train or load them again")
    means: dict[str, Any] = {}
    total = 0
    for inputs in batches:
        count = np.shape(jax.tree.leaves(inputs)[0])[graph.batch_axis or 0]
        if not count:
            raise ValueError("a batch needs at least one example, but one has none; leave it out")
        total += count
        for name, mean in compiled(variables, inputs).items():
            before = means.get(name, 0.0)
            means[name] = before + (exact(mean) - before) * (count / total)
    if not total:
        raise ValueError(f"{what} need data, but there is no batch; pass at least one")
    require_finite(what, means, "look for NaN in the batches")
    return means
