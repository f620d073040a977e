"""The toy networks that every law is checked on, and the words in which laws are written.

A law is one parametrised test in `test_laws_*.py`; a toy is one function in `toys/`. Everything
that costs a compilation is cached per toy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.compression import Compression
from jaxcompress.graph import Graph, trace
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import gated, ones, shrink
from tests.toys import (
    convolution,
    depth,
    derivatives,
    effects,
    indexed,
    inside_derivatives,
    leaves,
    modules,
    norms,
    operations,
    rearranged,
    tokens,
)
from tests.toys.record import Toy

__all__ = [
    "TOYS",
    "close",
    "differentiated",
    "every_toy",
    "gates_of",
    "graded",
    "graph_of",
    "masked",
    "random_keep",
    "same",
    "scalar",
    "shrunk",
    "taken_state",
    "toy_of",
    "trained",
]

PLAIN = (convolution, rearranged, tokens, leaves, operations, norms, depth)
FILES = (*PLAIN, derivatives, modules, indexed, effects, inside_derivatives)
TOYS = {build.__name__: build for file in FILES for build in file.TOYS}
every_toy = pytest.mark.parametrize("name", TOYS)


@functools.cache
def toy_of(name: str) -> Toy:
    """Build a toy once."""
    return TOYS[name]()


@functools.cache
def graph_of(name: str) -> Graph:
    """Trace a toy's evaluation once."""
    toy = toy_of(name)
    return trace(toy.apply, toy.variables, *toy.inputs)


def random_keep(graph: Graph, seed: int = 0, least: int = 1) -> dict[str, np.ndarray]:
    """Keep `least` channels of every group, up to half of it if that is more."""
    generator, keep = np.random.default_rng(seed), {}
    for name, group in graph.groups.items():
        least_kept = min(least, group.width)
        kept = int(generator.integers(least_kept, max(group.width // 2, least_kept) + 1))
        keep[name] = generator.permutation(group.width) < kept
    return keep


def gates_of(graph: Graph, keep: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Return the gates 0 and 1 that say the same as a keep; groups left out have gates of 1."""
    return {**ones(graph), **{name: jnp.asarray(mask, jnp.float32) for name, mask in keep.items()}}


def graded(name: str) -> dict[str, jax.Array]:
    """Return gates of one for the groups of a toy by whose gates can be differentiated."""
    toy, every = toy_of(name), ones(graph_of(name))
    return {group: gate for group, gate in every.items() if group not in toy.ungraded}


def scalar(output: Any) -> jax.Array:
    """Return one number that every entry of an output changes, each by a different amount."""
    parts = [leaf for leaf in jax.tree.leaves(output) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return sum((jnp.sum(part * _weights(part)) for part in parts), jnp.zeros(()))


def _weights(part: jax.Array) -> jax.Array:
    return jnp.asarray(np.cos(1.0 + np.arange(part.size)).reshape(part.shape), part.dtype)


def differentiated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make `g(variables, *inputs) -> (output, state, gradients of variables, of float inputs)`.

    The gradients are those of `scalar(output)`; `function` returns an output, or a pair
    (output, state).
    """

    def with_gradients(variables: Any, *inputs: Any) -> Any:
        positions = [i for i, array in enumerate(inputs) if _has_gradient(array)]

        def loss(params: Any, floats: list[Any]) -> Any:
            arguments = list(inputs)
            for position, array in zip(positions, floats, strict=True):
                arguments[position] = array
            result = function(params, *arguments)
            output, state = result if isinstance(result, tuple) else (result, {})
            return scalar(output), (output, state)

        differentiate = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        (_, (output, state)), (gradient, others) = differentiate(
            variables, [inputs[i] for i in positions]
        )
        return output, state, gradient, others

    return with_gradients


def _has_gradient(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jnp.inexact)


def trained() -> list[str]:
    """Return the toys that have a training mode."""
    return [name for name in TOYS if toy_of(name).train_apply is not None]


@functools.cache
def masked(name: str, train: bool = False) -> Callable[..., Any]:
    """Make `g(variables, gates, *inputs)`, compiled once per toy and mode, with gradients."""
    toy = toy_of(name)
    function = gated(graph_of(name), toy.function(train))

    def run(variables: Any, gates: Any, *inputs: Any) -> Any:
        with_gates = lambda variables, *inputs: function(variables, gates, *inputs)  # noqa: E731
        if not toy.differentiable:
            return with_gates(variables, *inputs), {}, {}, []
        return differentiated(with_gates)(variables, *inputs)

    return jax.jit(run)


def shrunk(name: str, prune: Compression, train: bool = False) -> Any:
    """Run what a compression leaves of a toy, with gradients: as `masked` does."""
    toy = toy_of(name)
    function = prune.function(toy.function(train))
    variables = prune.variables(toy.variables)
    if not toy.differentiable:
        return jax.jit(function)(variables, *toy.inputs), {}, {}, []
    return jax.jit(differentiated(function))(variables, *toy.inputs)


def taken_state(prune: Compression, variables: Any, state: Any) -> dict[str, Any]:
    """Return what a compression leaves of a new state, whose leaves replace some variables."""
    leaves_ = flatten_with_paths(state)[0]
    taken = prune.variables({**flatten_with_paths(variables)[0], **leaves_})
    return {path: taken[path] for path in leaves_}


def close(left: Any, right: Any, tolerance: float) -> None:
    """Assert that two trees are finite and equal up to `tolerance` x the largest entry."""
    one, other = flatten_with_paths(left)[0], flatten_with_paths(right)[0]
    assert list(one) == list(other)
    arrays = [np.asarray(leaf, np.float64) for leaf in (*one.values(), *other.values())]
    scale = max((float(np.abs(array).max(initial=0)) for array in arrays), default=0.0)
    for path, array, expected in zip(one, arrays, arrays[len(one) :], strict=False):
        assert np.isfinite(array).all(), path
        np.testing.assert_allclose(array, expected, rtol=0, atol=tolerance * scale, err_msg=path)


def same(left: Any, right: Any) -> None:
    """Assert that two trees are bitwise equal."""
    one, other = flatten_with_paths(left)[0], flatten_with_paths(right)[0]
    assert list(one) == list(other)
    for path in one:
        assert one[path].dtype == other[path].dtype, path
        np.testing.assert_array_equal(one[path], other[path], err_msg=path)


def difference(left: Any, right: Any) -> float:
    """Return the largest difference of two trees, relative to their largest entry."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    gaps = [(float(jnp.abs(a - b).max()), float(jnp.abs(b).max())) for a, b in pairs]
    return max(gap for gap, _ in gaps) / max(max(scale for _, scale in gaps), 1e-30)


def one_group(graph: Graph, name: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Return a keep that removes from one group only."""
    return {name: random_keep(graph, seed)[name]}


def kept_of(prune: Compression) -> dict[tuple[str, int], np.ndarray]:
    """Return the kept indices of each leaf axis that a shrink touches."""
    return {
        (path, int(axis)): np.asarray(kept)
        for path, leaf in prune.spec["leaves"].items()
        for axis, kept in leaf["keep"].items()
    }


def composed(
    graph: Graph, first: Compression, smaller: Graph, keep: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Say as one keep of `graph` what `first`, then `keep` of the smaller graph, leave."""
    left = {
        (path, axis): np.arange(size)
        for path, aval in graph.leaves.items()
        for axis, size in enumerate(aval.shape)
    }
    left.update(kept_of(first))
    for name, mask in keep.items():
        for member in smaller.groups[name].members:
            before = kept_of(first).get((member.path, member.axis))
            lost = member.indices[~mask].ravel()
            lost = lost if before is None else before[lost]
            place = member.path, member.axis
            left[place] = left[place][~np.isin(left[place], lost)]
    return {
        name: np.isin(group.members[0].indices[:, 0], left[group.members[0][:2]])
        for name, group in graph.groups.items()
    }


def permuted(variables: Any, graph: Graph, name: str, order: np.ndarray) -> Any:
    """Put the channels of a group into another order, in every member."""
    leaves_, treedef = flatten_with_paths(variables)
    for member in graph.groups[name].members:
        places = np.arange(leaves_[member.path].shape[member.axis])
        places[member.indices] = member.indices[order]
        leaves_[member.path] = jnp.take(leaves_[member.path], places, axis=member.axis)
    return jax.tree.unflatten(treedef, list(leaves_.values()))


def shrinkable(name: str) -> Compression:
    """Return the shrink of a toy's random keep."""
    return shrink(graph_of(name), random_keep(graph_of(name)))
