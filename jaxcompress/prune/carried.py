"""State handed in as an input (a recurrent carry, a cache) and out again: it shrinks as well.

A function's other arguments are its own business; these have a place in the graph because `trace`
was told by `state=` which output replaces which input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxcompress.annotations import Array, PyTree
from jaxcompress.compression.record import Compression, steps_of
from jaxcompress.compression.take import take_leaves
from jaxcompress.graph import Graph
from jaxcompress.graph.apply import KEPT, REMOVED, Known
from jaxcompress.graph.internals import abstract
from jaxcompress.graph.program import input_paths, owner_name, split_static

__all__ = ["carried_keep", "known_inputs", "original_inputs", "shrink_inputs"]

Inputs = Mapping[str, Mapping[str, Any]]
"""By path of the input: its `shape`, and the kept indices of the axes that lose some, `keep`."""


def carried_keep(graph: Graph, keep: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Return what a keep leaves of the inputs that outputs replace, as a spec holds it."""
    kept: dict[tuple[str, int], np.ndarray] = {}
    shapes = {entry.path: entry.shape for entry in graph.carried}
    for entry in graph.carried:
        mask = kept.setdefault((entry.path, entry.axis), np.ones(len(entry.channels), bool))
        if entry.group in keep:
            inside = entry.channels >= 0
            mask[inside] = keep[entry.group][entry.channels[inside]]
    inputs: dict[str, Array] = {}
    for (path, axis), mask in kept.items():
        if not mask.all():
            spec = inputs.setdefault(path, {"shape": list(shapes[path]), "keep": {}})
            spec["keep"][str(axis)] = np.flatnonzero(mask).tolist()
    return inputs


def original_inputs(
    carried: Inputs, inputs: tuple[PyTree, ...], keywords: dict[str, Array]
) -> tuple[tuple[Any, ...], dict[str, Any], set[str]]:
    """Return the arguments with the shapes that the original function takes.

    Returns:
        The inputs, the keywords, and the paths of those that came in smaller.

    Raises:
        ValueError: if such an input comes in whole.
    """
    arrays, restore = split_static((inputs, keywords))
    small, whole = set(), []
    for number, path in enumerate(input_paths(inputs, keywords)):
        shape = np.shape(arrays[number])
        if path not in carried or len(shape) != len(carried[path]["shape"]):
            continue
        before, after = list(shape), list(shape)
        for axis, kept in carried[path]["keep"].items():
            before[int(axis)], after[int(axis)] = carried[path]["shape"][int(axis)], len(kept)
        if list(shape) == after:
            small.add(path)
            arrays[number] = abstract(arrays[number], before)
        elif list(shape) == before:
            whole.append(f"input {path}: {shape}, expected {tuple(after)}")
    if whole:
        raise ValueError(
            "state that is handed in comes in as small as the shrunk function hands it out, but "
            f"{'; '.join(whole)}; shrink_inputs(compression, *inputs) takes its kept channels"
        )
    return (*restore(arrays), small)


def known_inputs(carried: Inputs, small: set[str]) -> Known:
    """Return what is kept and removed of the inputs that came in smaller."""
    known = {}
    for path in small:
        for axis, kept in carried[path]["keep"].items():
            values = np.full(carried[path]["shape"][int(axis)], REMOVED, np.int32)
            values[np.asarray(kept)] = KEPT
            known[owner_name(path), int(axis)] = values
    return known


def shrink_inputs(compression: Compression, *inputs: PyTree) -> tuple[Array, ...]:
    """Take the kept channels of the inputs that outputs replace; other inputs stay.

    Args:
        compression: a shrink, or a chain with some, of a graph traced with `state=`.
        *inputs: what followed the variables when it was traced.

    Raises:
        ValueError: if such an input has not its original size.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> from jaxcompress.prune import shrink
        >>> def step(variables, carry, x):
        ...     carry = jnp.tanh(x @ variables["a"] + carry @ variables["u"])
        ...     return carry @ variables["b"], carry
        >>> variables = {"a": jnp.ones((3, 8)), "u": jnp.ones((8, 8)), "b": jnp.ones((8, 2))}
        >>> carry, x = jnp.zeros((4, 8)), jnp.ones((4, 3))
        >>> graph = trace(step, variables, carry, x, state=lambda result: {0: result[1]})
        >>> prune = shrink(graph, {"a[1]": np.arange(8) < 5})
        >>> small_carry, x = shrink_inputs(prune, carry, x)
        >>> small_step, small_variables = prune.function(step), prune.variables(variables)
        >>> output, carry = small_step(small_variables, small_carry, x)
        >>> output.shape, carry.shape
        ((4, 2), (4, 5))
    """
    for step in steps_of(compression):
        carried = step.spec.get("inputs", {})
        arrays, restore = split_static((inputs, {}))
        places = {path: i for i, path in enumerate(input_paths(inputs, {})) if path in carried}
        _check(carried, {path: np.shape(arrays[i]) for path, i in places.items()})
        indices = {
            path: {int(axis): np.asarray(kept) for axis, kept in carried[path]["keep"].items()}
            for path in places
        }
        taken = take_leaves({path: arrays[i] for path, i in places.items()}, indices)
        for path, place in places.items():
            arrays[place] = taken[path]
        inputs = restore(arrays)[0]
    return inputs


def _check(carried: Inputs, shapes: Mapping[str, Sequence[int]]) -> None:
    wrong = [f"input {path}: missing" for path in carried if path not in shapes]
    for path, shape in shapes.items():
        before = carried[path]["shape"]
        same = len(shape) == len(before) and all(
            shape[int(axis)] == before[int(axis)] for axis in carried[path]["keep"]
        )
        if not same:
            wrong.append(f"input {path}: {tuple(shape)}, traced as {tuple(before)}")
    if wrong:
        raise ValueError(
            "the inputs to shrink are those that the function was traced with, but "
            f"{'; '.join(wrong)}; pass all of them, whole, in their order"
        )
