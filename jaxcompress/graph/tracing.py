"""`trace`: learn from a function's jaxpr what may be removed from it, and what it costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcompress.annotations import Function, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.graph.branches import dispensable
from jaxcompress.graph.carried import find_carried
from jaxcompress.graph.consumers import kernel_roles, summed_over, with_consumers
from jaxcompress.graph.cost import Cost
from jaxcompress.graph.counting import count_costs
from jaxcompress.graph.divided import divided_sums
from jaxcompress.graph.first import FirstReading, first_reading
from jaxcompress.graph.frozen import frozen_axes, pin_elsewhere, pin_inside_rules
from jaxcompress.graph.groups import find_groups
from jaxcompress.graph.outputs import Pick, Picks, pick_outputs, settle_outputs
from jaxcompress.graph.program import LabelledProgram, label_another, label_program, read
from jaxcompress.graph.record import Graph
from jaxcompress.graph.resolve import choose_factors, frozen_components
from jaxcompress.graph.symbolic import check_batch_axis, check_symbolic
from jaxcompress.graph.trainable import Trainable, default_trainable
from jaxcompress.graph.unread import read_leaves
from jaxcompress.paths import flatten_with_paths

__all__ = ["Also", "trace"]


class Also(NamedTuple):
    """One more function of the same variables.

    Attributes:
        function: a pure function of (variables, *inputs) whose results are arrays.
        inputs: the inputs that follow the variables.
        output: picks the outputs that must keep their shape, as in `trace`.
        state: picks the outputs that replace leaves, as in `trace`.
    """

    function: Function
    inputs: tuple[PyTree, ...]
    output: Pick | None = None
    state: Pick | None = None


def trace(
    apply: Function,
    variables: PyTree,
    *inputs: PyTree,
    output: Pick | None = None,
    state: Pick | None = None,
    also: Sequence[Also | tuple[Callable[..., Any], tuple[Any, ...]]] = (),
    batch_axis: int | None = 0,
    split: str = "whole",
    means: str = "kept",
    trainable: Trainable | None = None,
) -> Graph:
    """Find the groups of channels that can be removed from a function without touching its code.

    Args:
        apply: a pure function of (variables, *inputs) whose results are arrays.
        variables: pytree of arrays or `jax.ShapeDtypeStruct`: nothing is computed or allocated.
        *inputs: example inputs, arrays or `jax.ShapeDtypeStruct`; all but the batch axis keep
            their size. That one may be symbolic (`jax.export.symbolic_shape`): costs are then
            those of a batch of one.
        output: picks the outputs that must keep their shape from the result; by default all that
            are no new state.
        state: picks the outputs that replace leaves (new BatchNorm statistics) from the result, as
            a tree under the keys of the variables; the first key, the collection, may be left out.
            They shrink with their leaves. By default those about which there is no doubt: the
            result, or an entry of a tuple in it, holds all leaves of a collection under their full
            paths, as Linen's `mutable=["batch_stats"]` and the adapters of NNX and Equinox do.
            Keys that are integers name inputs: `lambda result: {0: result[1]}` says that the
            carry `result[1]` comes in again as the first input; without it, its widths stay.
        also: further functions of the same variables, `(function, inputs)` each, that the groups
            must fit too: training with its moving averages, auxiliary heads. Their leaves join the
            groups; FLOPs, sites, consumers and which groups there are remain those of `apply`.
        batch_axis: the axis of examples of every input; None where there is none.
        split: which factor of an axis that a reshape splits may shrink: "whole" removes whole
            heads or groups, "lanes" the same lane of every head or group.
        means: what a mean over channels divides by once some are gone: "kept", the number that is
            left, which is what the same code computes at the smaller width, or "all", the number
            that the program names, as if they were zeros. Removing equals masking in both. A mean
            is a sum, or a dot of two computed arrays, that is divided by the number of summands, or
            by `ddof` less, wherever it is used, also in another `jit` or behind a scan. What is
            divided after an addition, or behind a branch, a `while` or a derivative rule, goes by
            the number that the program names; `print(graph)` lists both.
        trainable: `trainable(path, leaf)`, which leaves count as parameters; Linen's `params` or,
            without such a collection, all inexact leaves by default.

    Returns:
        The graph; `print(graph)` explains it.

    Raises:
        TypeError: if a leaf of the variables or an output is not an array.
        ValueError: if `state` picks what replaces no leaf, or what `output` picks too, or if an
            axis other than that of examples is symbolic.

    Example:
        >>> import jax.numpy as jnp
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> graph = trace(apply, {"a": jnp.ones((3, 8)), "b": jnp.ones((8, 2))}, jnp.ones((4, 3)))
        >>> {name: group.width for name, group in graph.groups.items()}
        {'a[1]': 8}
        >>> graph.flops
        80.0

        State that comes in and goes out, and a leaf that only another function reads:

        >>> def step(variables, carry, x):
        ...     carry = jnp.tanh(carry @ variables["u"] + x @ variables["a"])
        ...     return carry @ variables["b"], carry
        >>> shapes = {"a": (3, 8), "u": (8, 8), "b": (8, 2), "start": (8,)}
        >>> variables = {name: jnp.ones(shape) for name, shape in shapes.items()}
        >>> carry, x = jnp.ones((4, 8)), jnp.ones((4, 3))
        >>> again = lambda result: {0: result[1]}
        >>> begin = lambda variables, x: step(variables, variables["start"], x[0])[0]
        >>> graph = trace(step, variables, carry, x, state=again)
        >>> list(graph.groups), graph.unread
        (['a[1]'], ('start',))
        >>> graph = trace(step, variables, carry, x, state=again, also=[(begin, (x,))])
        >>> [member.path for member in graph.groups["a[1]"].members], graph.unread
        (['a', 'b', 'start', 'u', 'u'], ())
    """
    require(batch_axis=integer(batch_axis, least=None, optional=True))
    if split not in ("whole", "lanes"):
        raise ValueError(f"split must be 'whole' or 'lanes', but is {split!r}")
    if means not in ("kept", "all"):
        raise ValueError(f"means must be 'kept' or 'all', but is {means!r}")
    others = [_also(number, entry) for number, entry in enumerate(also)]
    functions = (Also(apply, inputs, output, state), *others)
    readings = [_label(functions[0], variables, batch_axis)]
    labelled = readings[0][0]
    first = first_reading(labelled)
    readings += [_label(other, variables, batch_axis, labelled) for other in others]
    choose_factors(labelled.labelling, prefer_last=split == "lanes")
    graph = _graph(readings, first, batch_axis, trainable or default_trainable(variables))
    return dataclasses.replace(graph, means=means)


def _label(
    one: Also, variables: PyTree, batch_axis: int | None, before: LabelledProgram | None = None
) -> tuple[LabelledProgram, Picks]:
    """Label one function, its leaves as in a reading before."""
    program = read(one.function, variables, one.inputs)
    check_symbolic(program, batch_axis)
    check_batch_axis(one.inputs, batch_axis)
    picks = pick_outputs(program, one.output, one.state)
    free = set(picks.inputs.values())
    if before is None:
        labelled = label_program(program, True, batch_axis, free)
    else:
        labelled = label_another(before, program, batch_axis, free)
    settle_outputs(labelled, picks)
    return labelled, picks


def _also(number: int, entry: Also | tuple[Any, ...]) -> Also:
    other = Also(*entry)
    if not callable(other.function) or not isinstance(other.inputs, tuple):
        raise TypeError(
            "also= holds pairs (function, inputs) with the tuple of inputs that follow the "
            f"variables, but entry {number} is ({type(other.function).__name__}, "
            f"{type(other.inputs).__name__}); write (function, (inputs,))"
        )
    return other


def _graph(
    readings: Sequence[tuple[LabelledProgram, Picks]],
    first: FirstReading,
    batch_axis: int | None,
    trainable: Trainable,
) -> Graph:
    labelled = readings[0][0]
    labelling, leaves = labelled.labelling, labelled.program.leaves
    read_by = {path for reading, _ in readings for path in read_leaves(reading.program)}
    pin_inside_rules(labelled)
    components = labelling.components()
    summed = summed_over(first.contractions, first.reductions, components)
    pin_elsewhere(labelling, len(first.contractions), components, summed)
    first_pin = frozen_components(labelling, components)
    counted = [axis for c in first.contractions for axis in c.counted]
    roles = kernel_roles(labelled)
    offered = summed & (first_pin < 0)
    groups, group_of, channel_of = find_groups(labelled, components, offered, counted, roles)
    places = group_of[components], channel_of[components]
    groups = with_consumers(labelled, first.contractions, first.reductions, groups, places[0])
    carried = find_carried(readings, list(groups), *places)
    joined = np.unique(places[0][first.added])
    cost, operations = count_costs(
        labelled, first.contractions, groups, places[0], trainable, first.examples
    )
    return Graph(
        groups,
        first.sites,
        _with_least(cost, readings[0], places[0]),
        tuple(frozen_axes(labelled, components, first_pin)),
        leaves,
        first.uses,
        batch_axis,
        tuple(path for path in leaves if path not in read_by),
        carried,
        tuple(name for position, name in enumerate(groups) if position in joined),
        first.derived,
        scales=first.scales,
        divided=divided_sums(labelled.body, list(groups), places[0]),
        estimates=first.estimates,
        operations=operations,
    )


def _with_least(cost: Cost, reading: tuple[LabelledProgram, Picks], group_of: np.ndarray) -> Cost:
    """Let the groups have no channel at all that the outputs can do without."""
    labelled, picks = reading
    paths, _ = flatten_with_paths(labelled.program.outputs)
    picked = [place for place, path in enumerate(paths) if path in picks.pinned]
    can_go = dispensable(labelled, group_of, picked, cost.dense.tolist())
    least = np.array(cost.least)
    least[can_go] = 0
    return dataclasses.replace(cost, least=least)
