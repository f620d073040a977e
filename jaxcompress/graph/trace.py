"""`trace`: learn from a function's jaxpr what may be removed from it, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxcompress.graph.cost import Cost, CostBuilder
from jaxcompress.graph.groups import Consumer, Group, find_groups
from jaxcompress.graph.internals import is_key, source_line
from jaxcompress.graph.labelling import Kind
from jaxcompress.graph.program import LabelledProgram, label_program, read
from jaxcompress.graph.resolve import choose_factors, frozen_components
from jaxcompress.graph.rules.linear import passed_dimensions
from jaxcompress.graph.show import show
from jaxcompress.graph.sites import Site, find_sites, kernel_operand
from jaxcompress.graph.state import Pick, settle_outputs
from jaxcompress.graph.trainable import Trainable, default_trainable

__all__ = ["Frozen", "Graph", "trace"]


class Frozen(NamedTuple):
    """Indices of a leaf axis that cannot be removed.

    Attributes:
        path: the leaf.
        axis: its axis.
        number: how many of its indices are frozen for this reason.
        reason: why.
        source: the line of code that froze them.
    """

    path: str
    axis: int
    number: int
    reason: str
    source: str


@dataclass(frozen=True, eq=False)
class Graph:
    """What may be removed from a function, and what it costs.

    Attributes:
        groups: the prunable groups by name, in natural order.
        sites: the convs and dots with a leaf kernel, by path of the kernel.
        cost: FLOPs, parameters and bytes as functions of the groups' widths.
        frozen: what cannot be removed, and why.
        leaves: abstract value of every leaf of the variables, by path.
        uses: how many equations read each leaf.
        batch_axis: the axis of examples of the inputs, or None.
    """

    groups: Mapping[str, Group]
    sites: Mapping[str, Site]
    cost: Cost
    frozen: tuple[Frozen, ...]
    leaves: Mapping[str, Any]
    uses: Mapping[str, int]
    batch_axis: int | None

    @property
    def flops(self) -> float:
        """FLOPs per example (multiply-accumulates x 2) of the function as traced."""
        return float(self.cost.flops(self.cost.dense))

    @property
    def params(self) -> int:
        """Number of trainable parameters."""
        return int(self.cost.params(self.cost.dense))

    def __str__(self) -> str:
        return show(self)


def trace(
    apply: Callable[..., Any],
    variables: Any,
    *inputs: Any,
    output: Pick | None = None,
    state: Pick | None = None,
    batch_axis: int | None = 0,
    split: str = "whole",
    trainable: Trainable | None = None,
) -> Graph:
    """Find the groups of channels that can be removed from a function without touching its code.

    Args:
        apply: a pure function of (variables, *inputs) whose results are arrays.
        variables: pytree of arrays or `jax.ShapeDtypeStruct`: nothing is computed or allocated.
        *inputs: example inputs, arrays or `jax.ShapeDtypeStruct`; all but the batch axis keep
            their size.
        output: picks the outputs that must keep their shape from the result; by default all that
            are no new state.
        state: picks the outputs that replace leaves (new BatchNorm statistics) from the result, as
            a tree under the keys of the variables; the first key, the collection, may be left out.
            They shrink with their leaves. By default those about which there is no doubt: the
            result, or an entry of a tuple in it, holds all leaves of a collection under their full
            paths, as Linen's `mutable=["batch_stats"]` and the adapters of NNX and Equinox do.
        batch_axis: the axis of examples of every input; None where there is none.
        split: which factor of an axis that a reshape splits may shrink: "whole" removes whole
            heads or groups, "lanes" the same lane of every head or group.
        trainable: `trainable(path, leaf)`, which leaves count as parameters; Linen's `params` or,
            without such a collection, all inexact leaves by default.

    Returns:
        The graph; `print(graph)` explains it.

    Raises:
        TypeError: if a leaf of the variables or an output is not an array.
        ValueError: if `state` picks what replaces no leaf, or what `output` picks too.

    Example:
        >>> import jax.numpy as jnp
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> graph = trace(apply, {"a": jnp.ones((3, 8)), "b": jnp.ones((8, 2))}, jnp.ones((4, 3)))
        >>> {name: group.width for name, group in graph.groups.items()}
        {'a[1]': 8}
        >>> graph.flops
        80.0
    """
    if split not in ("whole", "lanes"):
        raise ValueError(f"split must be 'whole' or 'lanes', but is {split!r}")
    labelled = label_program(read(apply, variables, inputs), True, batch_axis)
    settle_outputs(labelled, output, state)
    choose_factors(labelled.labelling, prefer_last=split == "lanes")
    paths = labelled.program.leaves
    return _graph(labelled, batch_axis, trainable or default_trainable(paths))


def _graph(labelled: LabelledProgram, batch_axis: int | None, trainable: Trainable) -> Graph:
    labelling, program = labelled.labelling, labelled.program
    _pin_inside_rules(labelled)
    components = labelling.components()
    first_pin = frozen_components(labelling, components)
    contracted = np.zeros(len(first_pin), bool)
    for contraction in labelling.contractions:
        for pair in contraction.contracted:
            for axis in pair:
                if axis.labels is not None:
                    contracted[components[axis.labels]] = True
    counted = [axis for c in labelling.contractions for axis in c.counted]
    offered = contracted & (first_pin < 0)
    groups, group_of, _ = find_groups(labelled, components, offered, counted, _roles(labelled))
    groups = _with_consumers(labelled, groups, group_of[components])
    cost = _cost(labelled, groups, components, group_of, trainable)
    return Graph(
        groups,
        find_sites(labelled, cost.examples),
        cost,
        tuple(_frozen(labelled, components, first_pin)),
        program.leaves,
        dict(labelling.uses),
        batch_axis,
    )


def _pin_inside_rules(labelled: LabelledProgram) -> None:
    """Freeze what is contracted inside a custom derivative: a gate there would have none."""
    for contraction in labelled.labelling.contractions:
        if contraction.inside_rule:
            for pair in contraction.contracted:
                for axis in pair:
                    labelled.labelling.pin(
                        contraction.equation, axis, "it is contracted inside a custom derivative"
                    )


def _roles(labelled: LabelledProgram) -> dict[tuple[str, int], str]:
    """Return the role of each axis of each kernel: summed over, produced, or passed on."""
    roles: dict[tuple[str, int], str] = {}
    for contraction in labelled.labelling.contractions:
        for position in (0, 1):
            leaf = contraction.operands[position].leaf
            summed = [pair[position] for pair in contraction.contracted]
            passed = passed_dimensions(contraction.equation, position)
            axes = contraction.operands[position].axes if leaf is not None else ()
            for dimension, axis in enumerate(axes):
                owner = None if axis.labels is None else labelled.owner(int(axis.labels[0]))
                if owner is not None and owner.path == leaf:
                    role = "passing" if dimension in passed else "producer"
                    role = "consumer" if any(axis is other for other in summed) else role
                    roles.setdefault((owner.path, owner.axis), role)
    return roles


def _with_consumers(
    labelled: LabelledProgram, groups: dict[str, Group], group_of: np.ndarray
) -> dict[str, Group]:
    names, consumers = list(groups), {name: [] for name in groups}  # type: ignore[var-annotated]
    for contraction in labelled.labelling.contractions:
        kernel = kernel_operand(contraction)
        for pair in contraction.contracted:
            labels = pair[0].labels if pair[0].labels is not None else pair[1].labels
            if labels is None:
                continue
            axis = None if kernel is None else pair[kernel]
            owner = None
            if axis is not None and axis.labels is not None:
                owner = labelled.owner(int(axis.labels[0]))
            leaf = None if kernel is None else contraction.operands[kernel].leaf
            known = owner is not None and owner.path == leaf
            consumer = Consumer(
                leaf if known else None,
                owner.axis if known and owner is not None else None,
                source_line(contraction.equation),
            )
            for number in np.unique(group_of[labels]):
                if number >= 0:
                    consumers[names[number]].append(consumer)
    return {n: group._replace(consumers=tuple(consumers[n])) for n, group in groups.items()}


def _cost(
    labelled: LabelledProgram,
    groups: dict[str, Group],
    components: np.ndarray,
    group_of: np.ndarray,
    trainable: Trainable,
) -> Cost:
    builder = CostBuilder(components, group_of, list(groups))
    flop_terms = []
    for contraction in labelled.labelling.contractions:
        kernel = kernel_operand(contraction)
        path = None if kernel is None else contraction.operands[kernel].leaf
        source = source_line(contraction.equation)
        flop_terms.append(builder.term(contraction.counted, contraction.constant, path, source))
    parameters, sizes = [], []
    for (path, aval), value in zip(
        labelled.program.leaves.items(), labelled.body.inputs, strict=False
    ):
        itemsize = 0 if is_key(aval.dtype) else np.dtype(aval.dtype).itemsize
        if trainable(path, aval):
            parameters.append(builder.term(value.axes, 1, path))
        sizes.append(builder.term(value.axes, itemsize, path))
    kinds = labelled.labelling.kinds
    examples = sum(count for kind, count in kinds if kind is Kind.EXAMPLE)
    dense = [group.width for group in groups.values()]
    return builder.build(dense, flop_terms, parameters, sizes, max(examples, 1))


def _frozen(
    labelled: LabelledProgram, components: np.ndarray, first_pin: np.ndarray
) -> list[Frozen]:
    """Return, for every leaf axis, what freezes how many of its indices."""
    found = []
    for owner in labelled.owners:
        pins = first_pin[components[owner.start : owner.start + owner.size]]
        for number, count in zip(*np.unique(pins[pins >= 0], return_counts=True), strict=True):
            pin = labelled.labelling.pins[number]
            source = "" if pin.equation is None else source_line(pin.equation)
            found.append(Frozen(owner.path, owner.axis, int(count), pin.reason, source))
    return found
