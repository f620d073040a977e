"""Counting what a labelled program costs: one term per contraction, and two per leaf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxcompress.graph.cost import Cost, CostBuilder
from jaxcompress.graph.groups import Group
from jaxcompress.graph.internals import is_key, source_line
from jaxcompress.graph.labelling import Contraction, Kind
from jaxcompress.graph.program import LabelledProgram
from jaxcompress.graph.sites import kernel_operand
from jaxcompress.graph.trainable import Trainable

__all__ = ["count_costs", "count_examples"]


def count_examples(labelled: LabelledProgram) -> int:
    """Return by how many examples FLOPs are divided."""
    return max(sum(count for kind, count in labelled.labelling.kinds if kind is Kind.EXAMPLE), 1)


def count_costs(
    labelled: LabelledProgram,
    contractions: Sequence[Contraction],
    groups: Mapping[str, Group],
    group_of: np.ndarray,
    trainable: Trainable,
    examples: int,
) -> Cost:
    """Return the cost of a program as a function of its groups' widths.

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
    dense = [group.width for group in groups.values()]
    return builder.build(dense, flops, parameters, sizes, examples)
