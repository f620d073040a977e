"""The toy networks that every law is checked on, and the words in which laws are written.

A law is one parametrised test in `test_laws_*.py`; a toy is one function in `toys/`. Everything
that costs a compilation is cached per toy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.compression import Compression
from jaxcompress.graph import Graph, trace
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import gated, ones
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
    "Run",
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
    "shares",
    "shrunk",
    "taken_state",
    "toy_of",
    "trained",
    "weights",
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


def gates_of(graph: Graph, keep: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the gates 0 and 1 that say the same as a keep; groups left out have gates of 1."""
    return {**ones(graph), **{name: mask.astype(np.float32) for name, mask in keep.items()}}


def graded(name: str) -> dict[str, jax.Array]:
    """Return gates of one for the groups of a toy by whose gates can be differentiated."""
    toy, every = toy_of(name), ones(graph_of(name))
    return {group: gate for group, gate in every.items() if group not in toy.ungraded}


def scalar(output: Any, share: jax.Array | None = None) -> jax.Array:
    """Return one number that every entry of an output changes, each by a different amount.

    With shares, each example counts by its own.
    """
    parts = [leaf for leaf in jax.tree.leaves(output) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    if share is not None:
        parts = [
            part * share.reshape(-1, *[1] * (part.ndim - 1)).astype(part.dtype) for part in parts
        ]
    return sum((jnp.sum(part * weights(part)) for part in parts), jnp.zeros(()))


def weights(part: jax.Array) -> np.ndarray:
    """Return by what `scalar` multiplies each entry."""
    return np.cos(1.0 + np.arange(part.size)).reshape(part.shape).astype(part.dtype)


def differentiated(function: Callable[..., Any], share: Any = None) -> Callable[..., Any]:
    """Make `g(variables, *inputs) -> (output, state, gradients of variables, of float inputs)`.

    The gradients are those of `scalar(output, share)`; `function` returns an output, or a pair
    (output, state).
    """

    def with_gradients(variables: Any, *inputs: Any) -> Any:
        positions = [i for i, a in enumerate(inputs) if jnp.issubdtype(a.dtype, jnp.inexact)]

        def loss(params: Any, floats: list[Any]) -> Any:
            arguments = list(inputs)
            for position, array in zip(positions, floats, strict=True):
                arguments[position] = array
            result = function(params, *arguments)
            output, state = result if isinstance(result, tuple) else (result, {})
            return scalar(output, share), (output, state)

        differentiate = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        (_, (output, state)), (gradient, others) = differentiate(
            variables, [inputs[i] for i in positions]
        )
        return output, state, gradient, others

    return with_gradients


def trained() -> list[str]:
    """Return the toys that have a training mode."""
    return [name for name in TOYS if toy_of(name).train_apply is not None]


class Run(NamedTuple):
    """What one run of a toy gives, with gradients of `scalar(output)`; none where it has none."""

    output: Any
    state: Any = {}
    gradient: Any = {}
    inputs: Any = ()
    gates: Any = {}


def shares(name: str, example: int | None = None) -> np.ndarray | None:
    """Return how much each example counts in `masked`: all of them one, or a single one alone."""
    toy = toy_of(name)
    if not toy.independent:
        return None
    count = toy.inputs[0].shape[0]
    return (np.ones(count) if example is None else np.eye(count)[example]).astype(np.float32)


@functools.cache
def masked(name: str, train: bool = False) -> Callable[..., Run]:
    """Make `g(variables, gates, *inputs, share=) -> Run`, one program per toy and mode.

    Gradients by gates are those of the groups that `graded` names.
    """
    toy = toy_of(name)
    function = gated(graph_of(name), toy.function(train))

    def run(variables: Any, gates: Any, share: Any, *inputs: Any) -> Run:
        fixed = {group: gate for group, gate in gates.items() if group not in graded(name)}
        moving = {group: gate for group, gate in gates.items() if group not in fixed}

        def with_gates(both: Any, *inputs: Any) -> Any:
            variables, moving = both
            return function(variables, {**fixed, **moving}, *inputs)

        if not toy.differentiable:
            return Run(with_gates((variables, moving), *inputs))
        result = differentiated(with_gates, share)((variables, moving), *inputs)
        output, state, (gradient, slopes), others = result
        return Run(output, state, gradient, others, slopes)

    compiled, whole = jax.jit(run), shares(name)

    def call(variables: Any, gates: Any, *inputs: Any, share: Any = whole) -> Run:
        return compiled(variables, gates, share, *inputs)

    return call


def shrunk(
    name: str, prunes: Mapping[str, Compression], train: bool = False, gradients: bool = True
) -> dict[str, Run]:
    """Run what compressions leave of a toy, all in one program, as `masked` does."""
    toy = toy_of(name)
    functions = {key: prune.function(toy.function(train)) for key, prune in prunes.items()}

    def run(variables: Any, *inputs: Any) -> dict[str, Run]:
        small = {key: prune.variables(variables) for key, prune in prunes.items()}
        if not (gradients and toy.differentiable):
            return {key: Run(f(small[key], *inputs)) for key, f in functions.items()}
        return {key: Run(*differentiated(f)(small[key], *inputs)) for key, f in functions.items()}

    return jax.jit(run)(toy.variables, *toy.inputs)


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
    pairs = [
        (np.asarray(a, np.float64), np.asarray(b, np.float64))
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    ]
    gaps = [(np.abs(a - b).max(), np.abs(b).max()) for a, b in pairs]
    return float(max(gap for gap, _ in gaps) / max(max(scale for _, scale in gaps), 1e-30))
