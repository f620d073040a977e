"""Influence of layers and branches: against numbers by hand, unrolled and scanned."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.models.stacking import stack_layers
from jaxcompress.prune import importance
from tests.prune.importance.transformers import ENCODER, INPUTS, NETWORKS, encoder, traced
from tests.toys.record import draw

TURNS = jnp.array([[[0.0, 1.0], [-1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
STREAM = {"in": jnp.eye(2), "out": jnp.ones((2, 1))}
X = jnp.array([[1.0, 0.0], [0.0, 3.0]])


def unrolled(variables: Any, x: jax.Array) -> jax.Array:
    """Add x turned by 90 degrees, as linear branches do, then nothing."""
    stream = x @ variables["in"]
    for number in range(2):
        stream = stream - (stream @ variables[f"up{number}"]) @ variables[f"down{number}"]
    return stream @ variables["out"]


UNROLLED = {**STREAM, **{f"up{n}": -jnp.eye(2) for n in range(2)}}
UNROLLED |= {f"down{n}": TURNS[n] for n in range(2)}


def scanned(variables: Any, x: jax.Array) -> jax.Array:
    """The same in a scan, whose layers are the kernels of a stack."""

    def layer(stream: jax.Array, kernel: jax.Array) -> tuple[jax.Array, None]:
        return stream + jnp.tanh(stream) @ kernel, None

    return jax.lax.scan(layer, x @ variables["in"], variables["stack"])[0] @ variables["out"]


def test_a_branch_at_a_right_angle_turns_by_45_degrees_and_none_by_nothing() -> None:
    graph = jc.trace(unrolled, UNROLLED, X)
    scores = importance.block_influence(graph, unrolled, UNROLLED, [X])
    assert list(scores) == ["up0[1]", "up1[1]"] == graph.optional
    np.testing.assert_allclose(scores["up0[1]"], np.full(2, 1 - np.sqrt(0.5)), rtol=1e-6)
    np.testing.assert_allclose(scores["up1[1]"], np.zeros(2), atol=1e-6)
    keep = importance.without_least(graph, scores, 1)
    assert keep["up0[1]"].all() and not keep["up1[1]"].any()
    prune = jc.shrink(graph, keep)
    smaller = prune.function(unrolled)(prune.variables(UNROLLED), X)
    np.testing.assert_allclose(smaller, unrolled(UNROLLED, X), rtol=1e-6)
    with pytest.raises(ValueError, match="no more may go than there are, but count=3 of 2"):
        importance.without_least(graph, scores, 3)


def test_select_takes_the_branch_of_the_least_influence_first() -> None:
    graph = jc.trace(unrolled, UNROLLED, X)
    scores = importance.block_influence(graph, unrolled, UNROLLED, [X])
    keep = jc.select(graph, {**scores}, jc.Budget(flops=0.7), min_width=0)
    assert keep["up0[1]"].all() and not keep["up1[1]"].any()


def test_layers_of_a_scan_have_an_influence_each() -> None:
    variables = {**STREAM, "stack": TURNS}
    graph = jc.trace(scanned, variables, X)
    (depth,) = [name for name, group in graph.groups.items() if group.is_depth]
    scores = importance.block_influence(graph, scanned, variables, iter([X[:1], X[1:]]))
    sides = np.array([1.0, 3.0])
    turned = 1 - np.mean(sides / np.hypot(sides, np.tanh(sides)))
    assert list(scores) == [depth]
    np.testing.assert_allclose(scores[depth], [turned, 0.0], atol=1e-6)
    assert importance.without_least(graph, scores, 1)[depth].tolist() == [True, False]


def test_a_chain_has_neither() -> None:
    variables = draw(0, {"a": (2, 3), "b": (3, 2)})

    def chain(variables: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ variables["a"]) @ variables["b"]

    graph = jc.trace(chain, variables, X)
    with pytest.raises(ValueError, match=r"none that may go: graph.optional is \[\]"):
        importance.block_influence(graph, chain, variables, [X])


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_and_branches_of_transformers_are_scored(name: str) -> None:
    apply, variables, inputs, graph = traced(name)
    scores = importance.block_influence(graph, apply, variables, [inputs])
    depth = [n for n, group in graph.groups.items() if group.is_depth]
    assert list(scores) == depth if "scanned" in name else len(scores) == 4
    for score in scores.values():
        assert (score > 1e-4).all() and (score < 2).all()


def test_half_precision_turns_as_far() -> None:
    apply, variables, inputs, graph = traced("GPT-2")
    scores = importance.block_influence(graph, apply, variables, [inputs])
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
    for group, score in importance.block_influence(graph, apply, half, [inputs]).items():
        assert score.dtype == np.float32
        np.testing.assert_allclose(score, scores[group], atol=0.05)


def test_padding_is_left_out() -> None:
    apply, variables, inputs, graph = traced("encoder")

    def counted(inputs: Any) -> jax.Array:
        return inputs["mask"]

    once = importance.block_influence(graph, apply, variables, [inputs], counted=counted)
    other = {**INPUTS, "tokens": INPUTS["tokens"].at[0, 3].set(9)}
    again = importance.block_influence(graph, apply, variables, [other], counted=counted)
    for name, score in once.items():
        np.testing.assert_allclose(again[name], score, rtol=1e-4)
    whole = importance.block_influence(graph, apply, variables, [other])
    assert any(abs(whole[name][0] - once[name][0]) > 1e-4 for name in once)


def test_a_scanned_layer_turns_its_carry_as_the_unrolled_one_does() -> None:
    _, variables, inputs, _ = traced("encoder")
    folded, _, _ = encoder(scan=True)
    stacked = stack_layers(variables)
    graph = jc.trace(folded, stacked, inputs)
    (score,) = importance.block_influence(graph, folded, stacked, [inputs]).values()
    _, seen = ENCODER.apply(variables, inputs, train=False, capture_intermediates=True)
    names = ("embedding_norm", "layer0", "layer1")
    streams = [np.asarray(seen["intermediates"][name]["__call__"][0]) for name in names]
    unit = [stream / np.linalg.norm(stream, axis=-1, keepdims=True) for stream in streams]
    expected = [1 - (unit[n] * unit[n + 1]).sum(-1).mean() for n in range(2)]
    np.testing.assert_allclose(score, expected, rtol=1e-4)


def test_no_data_and_nan_are_refused() -> None:
    graph = jc.trace(unrolled, UNROLLED, X)
    with pytest.raises(ValueError, match="block influences need data, but there is no batch"):
        importance.block_influence(graph, unrolled, UNROLLED, [])
    with pytest.raises(TypeError, match="this is one mapping"):
        importance.block_influence(graph, unrolled, UNROLLED, {"x": X})
    with pytest.raises(ValueError, match=r"number of block influences .*: up0\[1\], up1\[1\];"):
        importance.block_influence(graph, unrolled, UNROLLED, [X.at[0, 0].set(jnp.nan)])
