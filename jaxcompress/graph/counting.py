"""Counting what a labelled program costs: one term per contraction, and two per leaf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxcompress.graph.axes import Axis
from jaxcompress.graph.cost import Cost, CostBuilder
from jaxcompress.graph.groups import Group
from jaxcompress.graph.internals import is_key, source_line
from jaxcompress.graph.labelling import Contraction, Kind
from jaxcompress.graph.operations import Operation, find_operations
from jaxcompress.graph.program import LabelledProgram, example_labels
from jaxcompress.graph.sites import kernel_operand
from jaxcompress.graph.trainable import Trainable

__all__ = ["count_costs", "count_examples", "per_example"]


def count_examples(labelled: LabelledProgram) -> int:
    """Return by how many examples FLOPs are divided."""
    return max(sum(count for kind, count in labelled.labelling.kinds if kind is Kind.EXAMPLE), 1)


def per_example(
    labelled: LabelledProgram, contractions: Sequence[Contraction], examples: int
) -> tuple[Contraction, ...]:
    """Return contractions of which `examples` share the cost, but for those computed once per call.

    What is computed from variables and constants alone (positions, products of kernels) costs every
    example as much as a call, whatever the batch. That needs the absence of an axis of examples: of
    an axis that no label follows and that is as long as the batch, it is not known, and it is taken
    for one.

    Args:
        labelled: the reading.
        contractions: what each costs, its `constant`.
        examples: their number.
    """
    shared = [all(value.origin is not None for value in one.operands) for one in contractions]
    if examples == 1 or not any(shared):
        return tuple(contractions)
    labelling = labelled.labelling
    components = labelling.components()
    batch = components[example_labels(labelling)]

    def is_of_examples(axis: Axis) -> bool:
        if axis.labels is None:
            return axis.size == examples
        return bool(np.isin(components[axis.labels], batch).any())

    made = []
    for one, is_shared in zip(contractions, shared, strict=True):
        axes = [*one.counted, *(axis for value in one.operands for axis in value.axes)]
        is_once = is_shared and not any(map(is_of_examples, axes))
        made.append(one._replace(constant=one.constant * examples) if is_once else one)
    return tuple(made)


def count_costs(
    labelled: LabelledProgram,
    contractions: Sequence[Contraction],
    groups: Mapping[str, Group],
    group_of: np.ndarray,
    trainable: Trainable,
    examples: int,
) -> tuple[Cost, tuple[Operation, ...]]:
    """Return the cost of a program as a function of its groups' widths, and its operations.

    Args:
        labelled: the reading.
        contractions: those that count.
        groups: by name, in order.
        group_of: `int[labels]`, the position of each label's group, -1 for none.
        trainable: which leaves count as parameters.
        examples: by how many examples FLOPs are divided.
    """
    builder = CostBuilder(group_of, list(groups))
    flops = []
    for contraction in contractions:
        kernel = kernel_operand(contraction)
        path = None if kernel is None else contraction.operands[kernel].leaf
        source = source_line(contraction.equation)
        flops.append(builder.term(contraction.counted, contraction.constant, path, source))
    parameters, sizes = [], []
    leaves = labelled.program.leaves.items()
    for (path, aval), value in zip(leaves, labelled.body.inputs, strict=False):
        itemsize = 0 if is_key(aval.dtype) else np.dtype(aval.dtype).itemsize
        if trainable(path, aval):
            parameters.append(builder.term(value.axes, 1, path))
        sizes.append(builder.term(value.axes, itemsize, path))
    operations = find_operations(builder, contractions, flops)
    dense = [group.width for group in groups.values()]
    return builder.build(dense, flops, parameters, sizes, examples), operations
