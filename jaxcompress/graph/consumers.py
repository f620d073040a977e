"""What sums say of groups: the role of each kernel axis, and who consumes a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxcompress.graph.axes import Axis
from jaxcompress.graph.groups import Consumer, Group
from jaxcompress.graph.internals import source_line
from jaxcompress.graph.labelling import Contraction, Reduction
from jaxcompress.graph.program import LabelledProgram
from jaxcompress.graph.rules.linear import passed_dimensions
from jaxcompress.graph.sites import kernel_operand

__all__ = ["kernel_roles", "summed_over", "with_consumers"]


def summed_over(
    contractions: Sequence[Contraction], reductions: Sequence[Reduction], components: np.ndarray
) -> np.ndarray:
    """Return `bool[components]`, those that a contraction or a reduction sums over."""
    summed = np.zeros(components.max(initial=-1) + 1, bool)
    pairs = [pair for contraction in contractions for pair in contraction.contracted]
    for axes in [*pairs, *(reduction.axes for reduction in reductions)]:
        for axis in axes:
            if axis.labels is not None:
                summed[components[axis.labels]] = True
    return summed


def kernel_roles(labelled: LabelledProgram) -> dict[tuple[str, int], str]:
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


def with_consumers(
    labelled: LabelledProgram,
    contractions: Sequence[Contraction],
    reductions: Sequence[Reduction],
    groups: Mapping[str, Group],
    group_of: np.ndarray,
) -> dict[str, Group]:
    """Return the groups with what sums over them; `group_of` is `int[labels]`."""
    names = list(groups)
    consumers: dict[str, list[Consumer]] = {name: [] for name in groups}
    depths: set[str] = set()
    silent = _without_gate_gradient(contractions, reductions, group_of)
    for reduction in reductions:
        consumer = Consumer(None, None, source_line(reduction.equation))
        reduced = [axis.labels for axis in reduction.axes if axis.labels is not None]
        for number in np.unique(group_of[np.concatenate(reduced)]):
            if number >= 0:
                consumers[names[number]].append(consumer)
                depths |= {names[number]} if reduction.equation.primitive.name == "scan" else set()
    members = {name: {(m.path, m.axis) for m in group.members} for name, group in groups.items()}
    for contraction in contractions:
        source = source_line(contraction.equation)
        for pair in contraction.contracted:
            labels = pair[0].labels if pair[0].labels is not None else pair[1].labels
            if labels is None:
                continue
            place = _kernel_axis(labelled, contraction, pair)
            for number in np.unique(group_of[labels]):
                if number >= 0:
                    # Of a grouped convolution whose whole groups go, the summed lanes all stay.
                    path, axis = place if place in members[names[number]] else (None, None)
                    consumers[names[number]].append(Consumer(path, axis, source))
    return {
        name: group._replace(
            consumers=tuple(consumers[name]),
            is_depth=name in depths,
            has_gate_gradient=number not in silent,
        )
        for number, (name, group) in enumerate(groups.items())
    }


def _kernel_axis(
    labelled: LabelledProgram, contraction: Contraction, pair: tuple[Axis, Axis]
) -> tuple[str | None, int | None]:
    """Return the leaf and axis of the kernel that is summed over; None where it is no leaf's."""
    kernel = kernel_operand(contraction)
    labels = None if kernel is None else pair[kernel].labels
    owner = None if labels is None else labelled.owner(int(labels[0]))
    if kernel is None or owner is None or owner.path != contraction.operands[kernel].leaf:
        return None, None
    return owner.path, owner.axis


def _without_gate_gradient(
    contractions: Sequence[Contraction], reductions: Sequence[Reduction], group_of: np.ndarray
) -> set[int]:
    """Return the positions of the groups that something inside a custom derivative sums over."""
    axes = [axis for one in reductions if one.inside_rule for axis in one.axes]
    for contraction in contractions:
        if contraction.inside_rule:
            axes += [axis for pair in contraction.contracted for axis in pair]
    labels = [axis.labels for axis in axes if axis.labels is not None]
    return set(np.unique(group_of[np.concatenate(labels)]).tolist()) if labels else set()
