"""Norms of activations: against numbers by hand, and on transformers of every form."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.models.stacking import stack_layers
from jaxcompress.prune import importance
from tests.prune.importance.transformers import NETWORKS, Network, encoder, traced
from tests.toys.record import rows


def tokens_network(variables: Any, x: jax.Array) -> jax.Array:
    """Two heads of two entries each, made and mixed again, at every position."""
    heads = jnp.einsum("bpi,ihs->bphs", x, variables["a"])
    return jnp.einsum("bphs,hso->bpo", heads, variables["b"])


VARIABLES = {"a": jnp.array([[[3.0, 4.0], [1.0, 0.0]]]), "b": jnp.ones((2, 2, 3))}
X = jnp.array([[[1.0], [3.0]], [[-2.0], [0.0]]])
GRAPH = jc.trace(tokens_network, VARIABLES, X)


def test_a_head_is_scored_by_its_norm_averaged_over_positions_then_squared_over_examples() -> None:
    scores = importance.activation_norms(GRAPH, tokens_network, VARIABLES, [X])
    # |head 0| = 5 |x|: means over positions 10 and 5; of head 1, 2 and 1.
    expected = np.sqrt([(10.0**2 + 5.0**2) / 2, (2.0**2 + 1.0**2) / 2])
    np.testing.assert_allclose(scores["a[1]"], expected, rtol=1e-6)
    assert scores.unit == "raw norm"


def test_batches_of_any_sizes_count_by_their_examples() -> None:
    together = importance.activation_norms(GRAPH, tokens_network, VARIABLES, [X])
    apart = importance.activation_norms(GRAPH, tokens_network, VARIABLES, iter([X[:1], X[1:]]))
    np.testing.assert_allclose(apart["a[1]"], together["a[1]"], rtol=1e-6)
    more = jnp.concatenate([X, X[:1]])
    uneven = importance.activation_norms(GRAPH, tokens_network, VARIABLES, [X, X[:1]])
    once = importance.activation_norms(GRAPH, tokens_network, VARIABLES, [more])
    np.testing.assert_allclose(uneven["a[1]"], once["a[1]"], rtol=1e-6)


def test_padding_is_left_out_of_the_mean() -> None:
    def apply(variables: Any, inputs: Any) -> jax.Array:
        return tokens_network(variables, inputs["x"])

    def counted(inputs: Any) -> jax.Array:
        return inputs["mask"]

    batch = {"x": X, "mask": jnp.array([[1, 0], [1, 1]])}
    scores = importance.activation_norms(GRAPH, apply, VARIABLES, [batch], counted=counted)
    np.testing.assert_allclose(scores["a[1]"][0], np.sqrt((5.0**2 + 5.0**2) / 2), rtol=1e-6)


def test_a_width_is_scored_by_what_normalisation_hands_to_kernels() -> None:
    def apply(variables: Any, x: jax.Array) -> jax.Array:
        stream = x @ variables["a"]
        normed = stream / jnp.sqrt(jnp.square(stream).mean(-1, keepdims=True)) * variables["scale"]
        return normed @ variables["b"] + normed @ variables["c"]

    variables = {"a": jnp.array([[4.0, -3.0]]), "scale": jnp.array([1.0, 2.0])}
    variables |= {"b": jnp.ones((2, 3)), "c": jnp.ones((2, 3))}
    x = jnp.array([[1.0], [2.0]])
    graph = jc.trace(apply, variables, x)
    scores = importance.activation_norms(graph, apply, variables, [x])
    # Each of two kernels is given (4, -3) / sqrt(12.5) times the scale.
    expected = np.sqrt(2) * np.array([4.0, 6.0]) / np.sqrt(12.5)
    np.testing.assert_allclose(scores["a[1]"], expected, rtol=1e-5)


def test_a_channel_that_is_flattened_has_the_norm_of_its_pixels() -> None:
    def apply(variables: Any, x: jax.Array) -> jax.Array:
        image = x @ variables["a"]
        return image.reshape(len(x), -1) @ variables["b"]

    variables = {"a": jnp.array([[1.0, 2.0]]), "b": jnp.ones((4, 3))}
    x = jnp.array([[[3.0], [4.0]]])
    graph = jc.trace(apply, variables, x)
    scores = importance.activation_norms(graph, apply, variables, [x])
    np.testing.assert_allclose(scores["a[1]"], [5.0, 10.0], rtol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_group_of_transformers_is_scored_but_depth(name: str) -> None:
    apply, variables, inputs, graph = traced(name)
    scores = importance.activation_norms(graph, apply, variables, [inputs])
    assert list(scores) == [n for n, group in graph.groups.items() if not group.is_depth]
    for group, score in scores.items():
        assert score.shape == (graph.groups[group].width,) and score.dtype == np.float32
        assert (score > 0).all() and np.std(score) > 0, group


def test_half_precision_is_summed_in_float32() -> None:
    def apply(variables: Any, x: jax.Array) -> jax.Array:
        return tokens_network(variables, x.astype(jnp.bfloat16))

    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), VARIABLES)
    many = jnp.ones((1, 1000, 1))
    scores = importance.activation_norms(GRAPH, apply, half, [many])
    np.testing.assert_allclose(scores["a[1]"], [5.0, 1.0], rtol=1e-6)  # 256 + 1 = 256 in bfloat16


def test_a_scan_sums_the_squares_of_its_layers() -> None:
    unrolled, variables, inputs, graph = traced("encoder")
    scanned: Network = encoder(scan=True)
    stacked = stack_layers(variables)
    shared = jc.trace(scanned[0], stacked, inputs)
    apart = importance.activation_norms(graph, unrolled, variables, [inputs])
    together = importance.activation_norms(shared, scanned[0], stacked, [inputs])
    name = "params/{}/mlp_expand/kernel[{}]"
    squares = sum(np.square(apart[name.format(f"layer{n}", 1)]) for n in range(2))
    np.testing.assert_allclose(together[name.format("layers", 2)], np.sqrt(squares), rtol=1e-5)


def test_one_program_is_compiled_for_batches_of_a_shape() -> None:
    count = 0

    def apply(variables: Any, x: jax.Array) -> jax.Array:
        nonlocal count
        count += 1
        return tokens_network(variables, x)

    importance.activation_norms(GRAPH, apply, VARIABLES, [X, X + 1, X + 2])
    assert count == 1


def test_single_groups_are_scored_alone() -> None:
    whole = importance.activation_norms(GRAPH, tokens_network, VARIABLES, [X])
    scores = importance.activation_norms(GRAPH, tokens_network, VARIABLES, [X], groups=["a[2]"])
    assert list(scores) == ["a[2]"] and list(whole) == ["a[1]", "a[2]"]
    np.testing.assert_array_equal(scores["a[2]"], whole["a[2]"])
    with pytest.raises(ValueError, match=r"activation_norms names groups .* \['c'\] are none"):
        importance.activation_norms(GRAPH, tokens_network, VARIABLES, [X], groups=["c"])


def test_no_data_nan_and_networks_without_contractions_are_refused() -> None:
    with pytest.raises(ValueError, match="activation norms need data, but there is no batch"):
        importance.activation_norms(GRAPH, tokens_network, VARIABLES, [])
    with pytest.raises(ValueError, match="at least one example"):
        importance.activation_norms(GRAPH, tokens_network, VARIABLES, [X[:0]])
    with pytest.raises(ValueError, match=r"number of activation norms .*: a\[1\], a\[2\]; look"):
        importance.activation_norms(GRAPH, tokens_network, VARIABLES, [X.at[0, 0, 0].set(jnp.nan)])
    variables, x = {"a": jnp.ones(3)}, rows(2, 3)
    graph = jc.trace(lambda v, x: x * v["a"], variables, x)
    with pytest.raises(ValueError, match="this function has no such place"):
        importance.activation_norms(graph, lambda v, x: x * v["a"], variables, [x])
