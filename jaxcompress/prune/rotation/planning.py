"""Which leaves turn, and which scales go into the kernels behind them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Json
from jaxcompress.graph import Graph
from jaxcompress.graph.program import LabelledProgram
from jaxcompress.graph.shifts import Shift, find_shifts
from jaxcompress.prune.rotation.following import follow
from jaxcompress.prune.rotation.record import Record, Scale

__all__ = ["Fold", "Plan", "described", "leaf_axes", "plan"]

Axes = Mapping[str, tuple[int, ...]]


class Fold(NamedTuple):
    """A scale, and perhaps a shift, that go into the kernels behind them.

    Attributes:
        scale: path of the leaf, 1 afterwards.
        shift: path of the leaf, 0 afterwards; empty for none.
        weight: how often the shift counts.
        kernels: the axis that is scaled, by path.
        biases: the leaf that takes what a kernel makes of the shift, by path of the kernel.
    """

    scale: str
    shift: str
    weight: float
    kernels: dict[str, int]
    biases: dict[str, Shift]


class Plan(NamedTuple):
    """What is done to the variables.

    Attributes:
        axes: those of each leaf along the stream, by path.
        folds: scales that go into kernels.
        matrices: scales that become matrices, and why, by path.
        readers: the kernels, and scales that are matrices, that are given the stream.
        has_ones: whether something is summed over channels, or added to all of them alike.
    """

    axes: Axes
    folds: tuple[Fold, ...]
    matrices: dict[str, str]
    readers: tuple[str, ...]
    has_ones: bool


def leaf_axes(graph: Graph, group: str) -> Axes:
    """Return the axes of leaves along a group, which must be whole, in one order, and floats.

    Raises:
        ValueError: naming those that are not.
    """
    axes: dict[str, tuple[int, ...]] = {}
    wrong = []
    for path, axis, indices, _ in graph.groups[group].members:
        channels = np.arange(graph.groups[group].width)[:, None]
        if indices.shape != channels.shape or (indices != channels).any():
            wrong.append(f"{path}[{axis}]")
        elif graph.leaves[path].shape[axis] != len(channels):
            wrong.append(f"{path}[{axis}]")
        elif not jnp.issubdtype(graph.leaves[path].dtype, jnp.floating):
            wrong.append(f"{path} ({graph.leaves[path].dtype})")
        axes[path] = (*axes.get(path, ()), axis)
    if wrong:
        raise ValueError(
            f"a rotation mixes all channels of a stream, so each leaf's axis along {group} must be "
            f"all of it, once and in one order, and hold floats, but {', '.join(wrong)} do not; "
            "rotate another group"
        )
    return axes


def plan(graph: Graph, labelled: LabelledProgram, group: str) -> Plan:
    """Find out how a function's variables are turned along a group.

    Raises:
        ValueError: if its channels meet what a rotation does not pass; all such lines are named.
    """
    axes = leaf_axes(graph, group)
    matrices: dict[str, str] = {}
    while True:
        record = follow(labelled, axes, matrices)
        folds = tuple(_fold(labelled, axes, record, scale) for scale in record.scales.values())
        failed = record.failed | {one[0]: one[1] for one in folds if not isinstance(one, Fold)}
        new = {path: why for path, why in failed.items() if path not in matrices}
        if not new:
            break
        matrices |= new
    if record.problems:
        listed = "; ".join(f"{line}: {reason}" for line, reason in record.problems.items())
        raise ValueError(
            f"a stream that is rotated passes only through sums, norms and kernels, but {group} "
            f"does not: {listed}; rotate another group, or none"
        )
    whole = tuple(one for one in folds if isinstance(one, Fold))
    readers = sorted({*record.readers, *matrices, *(k for one in whole for k in one.kernels)})
    if not readers:
        raise ValueError(
            f"directions are found in what kernels are given of a stream, but no leaf reads {group}"
            "; fold kernels that are computed from leaves first"
        )
    kinds = {action.kind for action in record.actions.values()}
    return Plan(axes, whole, matrices, tuple(readers), bool(kinds & {"sum", "add"}))


def _fold(
    labelled: LabelledProgram, axes: Axes, record: Record, scale: Scale
) -> Fold | tuple[str, str]:
    """Return how a scale goes into kernels, or its path and why it does not."""
    path, shift = scale.scaled.scale, scale.scaled.shift
    uses = labelled.labelling.uses
    shared = [one for one in (path, *([shift] if shift else ()), *scale.kernels) if uses[one] > 1]
    if shared:
        return path, f"something else reads {', '.join(sorted(shared))}"
    leaves = labelled.program.leaves
    stacked = leaves[path].shape[:-1]
    unlike = [
        kernel
        for kernel in scale.kernels
        if len(axes.get(kernel, ())) != 1
        or leaves[kernel].shape[: len(stacked)] != stacked
        or _scans(labelled, kernel) < len(stacked)
    ]
    if unlike:
        return path, f"{', '.join(sorted(unlike))} cannot be scaled along one axis"
    kernels = {kernel: axes[kernel][0] for kernel in sorted(scale.kernels)}
    if not shift:
        return Fold(path, "", 1.0, kernels, {})
    biases, lost = find_shifts(labelled, scale.kernels, in_scans=True)
    if lost or scale.scaled.weight is None:
        listed = ", ".join(f"of {kernel}: {why}" for kernel, why in sorted(lost.items()))
        return path, f"no bias takes the shift {listed}"
    return Fold(path, shift, scale.scaled.weight, kernels, biases)


def _scans(labelled: LabelledProgram, kernel: str) -> int:
    """Return over how many axes of a kernel scans run before it is contracted."""
    operands = [one for each in labelled.labelling.contractions for one in each.operands]
    steps = next(one.steps for one in operands if one.leaf == kernel)
    return sum(name == "slice" for name, _ in steps)


def described(labelled: LabelledProgram, made: Plan) -> dict[str, Json]:
    """Return what a spec says of each leaf, by path."""
    ones, leaves = {fold.scale for fold in made.folds}, labelled.program.leaves
    return {
        path: {
            "shape": list(leaves[path].shape),
            "dtype": str(leaves[path].dtype),
            "axes": list(axes),
            "role": _role(path, ones, made.matrices),
        }
        for path, axes in made.axes.items()
    }


def _role(path: str, ones: Collection[str], matrices: Collection[str]) -> str:
    return "ones" if path in ones else "matrix" if path in matrices else "turned"
