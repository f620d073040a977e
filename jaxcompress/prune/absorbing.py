"""What removed channels carried on average, put into the biases behind them.

A removed channel counts as 0, but what it carried may have been near a constant other than 0: a
BatchNorm's shift through the nonlinearity, a bias. What a consumer makes of that constant is a
constant again, and the bias that is added to its result next can hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.backend import compiled
from jaxcompress.compression.checks import check_keep
from jaxcompress.compression.observing import observe
from jaxcompress.compression.precision import like, widened
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph
from jaxcompress.graph.apply import KEPT, REMOVED, carry
from jaxcompress.graph.internals import bind, source_line
from jaxcompress.graph.interpret import Node
from jaxcompress.graph.positions import averaged, constant_shape
from jaxcompress.graph.program import LabelledProgram, label_program, read
from jaxcompress.graph.rearrange import rearranged
from jaxcompress.graph.shifts import Shift, find_shifts
from jaxcompress.paths import flatten_with_paths

__all__ = ["Absorbed", "absorb"]

Kept = dict[int, np.ndarray]
"""`{axis: bool[size]}` of one kernel, what it keeps of the axes that it sums over."""


class Absorbed(NamedTuple):
    """Variables that hold the constants of channels to be removed.

    Attributes:
        variables: as they were but for the leaves below, in all shapes and dtypes.
        leaves: by path of the kernel, the leaf that holds its constant.
        left_out: by path of the kernel, why no leaf does; by line of code, the convs and dots over
            removed channels whose kernel is no leaf.
    """

    variables: Any
    leaves: dict[str, str]
    left_out: dict[str, str]


def absorb(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    batches: Iterable[Batch],
    keep: Mapping[str, Array],
) -> Absorbed:
    """Put what removed channels carry on average into the biases behind their consumers.

    For every conv or dot over removed channels x, with kernel K,
    bias += E[sum over window and removed channels of K x], or, where a BatchNorm's mean is
    subtracted instead, mean -= E[...]. The mean is over examples and positions. So `shrink`, of the
    same `keep`, removes nothing that was constant: exactly for dots, windows of 1 x 1 and windows
    without padding; under padding the borders lack less than the rest, and each position is given
    the mean of all.

    The leaf is found in the program: added to the result, or subtracted from it, next, through
    whatever moves entries, and through additions of other things. It must be read nowhere else, and
    the result nowhere before. Depthwise kernels and sums pass channels on and need nothing.
    Re-estimated BatchNorm statistics take the place of what was put into means.

    Args:
        graph: of `apply`.
        apply: evaluation function `(variables, inputs) -> outputs`.
        variables: its variables, to be shrunk afterwards.
        batches: inputs `[examples, ...]` that differ in their number of examples at most. They are
            read once, one after the other; means are accumulated in float32.
        keep: `{group: bool[width]}`, as of `select`.

    Returns:
        The variables, the leaves that changed, and what was left out. Where nothing goes, the
        variables are those that were given, and no batch is read.

    Raises:
        ValueError: if a group is unknown, a width wrong, a group would lose every channel, there is
            no batch, or variables or means are not finite.
        TypeError: if a keep is traced or not boolean.

    Example:
        >>> from jaxcompress.graph import trace
        >>> def apply(variables, x):
        ...     hidden = jax.nn.relu(x @ variables["a"] + variables["c"])
        ...     return hidden @ variables["b"] + variables["d"]
        >>> variables = {"a": jnp.array([[1.0, 0.0]]), "b": jnp.array([[1.0], [2.0]])}
        >>> variables |= {"c": jnp.array([0.0, 3.0]), "d": jnp.array([0.5])}
        >>> x = jnp.array([[1.0], [2.0]])
        >>> keep = {"a[1]": np.array([True, False])}
        >>> result = absorb(trace(apply, variables, x), apply, variables, [x], keep)
        >>> result.leaves, result.variables["d"].tolist()
        ({'b': 'd'}, [6.5])
    """
    keep = check_keep(graph, keep)
    require_finite("variables", variables, "train or load them again")
    if all(mask.all() for mask in keep.values()):
        return Absorbed(variables, {}, {})
    kernels = _consumers(graph, keep)
    first, every = _opened(batches)
    labelled = label_program(read(apply, variables, (first,)), discover=False)
    shifts, left_out = find_shifts(labelled, kernels)
    left_out |= _without_leaf(graph, keep, labelled)
    leaves, treedef = flatten_with_paths(variables)
    means = _means(graph, apply, variables, every, shifts) if shifts else {}
    require_finite("input means", means, "look for NaN in the batches")
    changes: dict[str, jax.Array] = {}
    for path, shift in shifts.items():
        constant = _constant(jnp.asarray(leaves[path]), kernels[path], means[path], shift)
        change = shift.sign * constant.ravel()[shift.entries]
        changes[shift.leaf] = changes.get(shift.leaf, 0) + change
    for path, change in changes.items():
        leaves[path] = like(widened(leaves[path]) + change, leaves[path])
    into = {path: shift.leaf for path, shift in shifts.items()}
    return Absorbed(jax.tree.unflatten(treedef, list(leaves.values())), into, left_out)


def _consumers(graph: Graph, keep: Mapping[str, np.ndarray]) -> dict[str, Kept]:
    """Return the kernels that sum over removed channels, with what they keep of each axis."""
    kernels: dict[str, dict[int, np.ndarray]] = {}
    for name, mask in keep.items():
        places = {(one.path, one.axis) for one in graph.groups[name].consumers if one.path}
        for path, axis, indices, _ in graph.groups[name].members:
            if (path, axis) in places and not mask.all():
                axes = kernels.setdefault(path, {})
                kept = axes.setdefault(axis, np.ones(graph.leaves[path].shape[axis], bool))
                kept[indices[~mask].ravel()] = False
    return kernels


def _without_leaf(
    graph: Graph, keep: Mapping[str, np.ndarray], labelled: LabelledProgram
) -> dict[str, str]:
    """Name the contractions over removed channels that have no leaf, by their line of code."""
    known: dict[tuple[str, int], np.ndarray] = {}
    for name, mask in keep.items():
        for path, axis, indices, _ in graph.groups[name].members:
            size = graph.leaves[path].shape[axis]
            values = known.setdefault((path, axis), np.full(size, KEPT, np.int32))
            values[indices[~mask].ravel()] = REMOVED
    numbers = carry(labelled, known, lambda value: "removed" if value == REMOVED else "kept")
    return {
        source_line(one.equation): "its kernel is no leaf"
        for one in labelled.labelling.contractions
        if all(operand.leaf is None for operand in one.operands)
        and any(
            (numbers[axis.labels] == REMOVED).any()
            for pair in one.contracted
            for axis in pair
            if axis.labels is not None
        )
    }


def _opened(batches: Iterable[Batch]) -> tuple[Any, Iterable[Any]]:
    """Return the first batch, and all of them."""
    iterator = iter(batches)
    for first in iterator:
        return first, chain([first], iterator)
    raise ValueError("a mean needs data, but there is no batch; pass at least one")


def _means(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    batches: Iterable[Batch],
    shifts: Mapping[str, Shift],
) -> dict[str, Any]:
    """Return the mean of what each kernel is given, over all axes that it does not meet."""
    run = compiled(lambda tree, inputs: _batch_means(apply, tree, inputs, shifts))
    means: dict[str, Any] = {}
    total = 0
    for inputs in batches:
        count = np.shape(jax.tree.leaves(inputs)[0])[graph.batch_axis or 0]
        total += count
        for path, mean in run(variables, inputs).items():
            before = means.get(path, 0.0)
            means[path] = before + (mean - before) * (count / total)
    return means


def _batch_means(
    apply: Function, variables: PyTree, inputs: PyTree, shifts: Mapping[str, Shift]
) -> dict[str, jax.Array]:
    means = {}

    def look(path: str, node: Node, operands: Sequence[Array], position: int) -> None:
        axes = averaged(node.equation, position)
        means[path] = widened(operands[1 - position]).mean(axes, keepdims=True)

    observe(apply, variables, inputs, shifts, look)
    return means


def _constant(leaf: jax.Array, kept: Kept, mean: jax.Array, shift: Shift) -> jax.Array:
    """Return what a kernel makes of the removed channels' means, averaged over positions."""
    stays = jnp.ones((), bool)
    for axis, mask in kept.items():
        stays &= jnp.asarray(mask).reshape([-1 if i == axis else 1 for i in range(leaf.ndim)])
    kernel = rearranged(jnp.where(stays, 0, widened(leaf)), shift.steps)
    operands = [mean, kernel] if shift.position else [kernel, mean]
    exact = {"precision": jax.lax.Precision.HIGHEST, "preferred_element_type": kernel.dtype}
    (made,) = bind(shift.equation, operands, exact)
    shape = constant_shape(shift.equation, shift.position)
    return made.mean([axis for axis, size in enumerate(shape) if size == 1], keepdims=True)
