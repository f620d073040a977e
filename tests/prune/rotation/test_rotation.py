"""A turned network computes what it did, and is cut as any other."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcompress as jc
from jaxcompress import models
from jaxcompress.graph.program import label_program, read
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune.rotation.planning import plan
from jaxcompress.prune.rotation.principal import first_rotation, principal_directions
from jaxcompress.prune.rotation.turning import turned_leaves
from tests.models.transformers import INPUTS
from tests.prune.rotation.networks import MODULES, Turned, by_hand, turned
from tests.toys.record import draw

# By kind of network: how many scales are matrices, and whether channels are summed up.
EVERY = {
    "decoder": (0, False),
    "decoder_scanned": (0, False),
    "llama": (1, False),
    "gpt2": (1, True),
    "gpt2_scanned": (1, True),
    "vit": (0, True),
    "encoder_scanned": (3, True),
}
SHAPES = {"in": (4, 4), "up1": (4, 6), "down1": (6, 4), "up2": (4, 6), "down2": (6, 4)}


def outputs(case: Turned, function: Any, variables: Any) -> np.ndarray:
    return np.asarray(jax.jit(function)(variables, case.inputs), np.float32)


def half(case: Turned) -> dict[str, np.ndarray]:
    group = case.rotated.group
    scores = np.asarray(case.rotated.scores[group])
    return {group: scores > np.median(scores)}


@pytest.mark.parametrize("kind", EVERY)
def test_the_turned_function_is_the_function(kind: str) -> None:
    case = turned(kind)
    matrices, has_ones = EVERY[kind]
    expected = outputs(case, case.apply, case.variables)
    result = outputs(case, case.function, case.small)
    np.testing.assert_allclose(result, expected, atol=1e-5 * np.abs(expected).max())
    assert (len(case.rotated.matrices), case.rotated.compression.spec["ones"]) == EVERY[kind]
    # Without matrices and means nothing is rewritten; turned variables are others.
    assert (case.function is case.apply) is (not matrices and not has_ones)
    pairs = zip(jax.tree.leaves(case.variables), jax.tree.leaves(case.small), strict=True)
    changed = [a.shape != b.shape or np.abs(np.subtract(a, b)).max() > 1e-2 for a, b in pairs]
    assert sum(changed) > len(changed) / 2
    scores = np.asarray(case.rotated.scores[case.rotated.group])
    assert scores.sum() == pytest.approx(1, abs=1e-4)
    assert (np.diff(scores[: len(scores) - has_ones]) <= 0).all()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "encoder_scanned"])
def test_removing_equals_masking_after_turning(kind: str) -> None:
    case = turned(kind)
    keep, graph = half(case), case.rotated.graph
    prune = jc.shrink(graph, keep)
    both = jc.chain(case.rotated.compression, prune)
    shrunk = outputs(case, both.function(case.apply), both.variables(case.variables))
    gates = {name: jnp.asarray(mask, jnp.float32) for name, mask in keep.items()}
    masked = jax.jit(jc.gated(graph, case.function))(case.small, gates, case.inputs)
    dense = outputs(case, case.apply, case.variables)
    np.testing.assert_allclose(shrunk, masked, atol=1e-5 * np.abs(masked).max())
    assert np.isfinite(shrunk).all() and np.abs(shrunk - dense).max() > 1e-3


def test_gradients_are_those_before_turned() -> None:
    """Of a kernel whose scale went nowhere: dL/dW' = dL/dW Q."""
    case = turned("gpt2")
    loss = lambda variables, inputs: jnp.sin(case.apply(variables, inputs)).sum()  # noqa: E731
    turn = case.rotated.compression.function(loss)
    before = jax.jit(jax.grad(loss))(case.variables, case.inputs)["params"]["layer0"]
    after = jax.jit(jax.grad(turn))(case.small, case.inputs)["params"]["layer0"]
    kernels = [tree["mlp_project"]["kernel"] for tree in (before, after)]
    one, other = (np.linalg.norm(kernel, axis=-1) for kernel in kernels)
    np.testing.assert_allclose(one, other, atol=1e-4 * float(one.max()))
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-2


def test_what_the_readers_are_given_gives_the_rotation() -> None:
    """Each row of the stream is one of four directions, all unlike in number."""
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    often = np.array([5, 2, 9, 1])
    x = jnp.asarray(np.repeat(np.eye(4), often, axis=0), jnp.float32)
    variables = {**draw(1, SHAPES | {"out": (4, 3)}), "in": jnp.asarray(directions, jnp.float32)}
    for name in ("down1", "down2"):
        variables[name] = jnp.zeros_like(variables[name])
    graph = jc.trace(by_hand, variables, x)
    rotated = jc.rotate(graph, by_hand, variables, [x[:6], x[6:]])
    small = rotated.compression.variables(variables)
    order = np.argsort(often)[::-1]
    np.testing.assert_allclose(np.abs(small["in"][order]), np.eye(4), atol=1e-3)
    scores = rotated.scores[rotated.group]
    np.testing.assert_allclose(scores, often[order] / often.sum(), atol=1e-5)
    np.testing.assert_allclose(by_hand(small, x), by_hand(variables, x), atol=1e-5)


@pytest.mark.parametrize("wrong", ["longer", "skewed", "one left out", "transposed"])
def test_another_matrix_or_place_would_be_noticed(wrong: str) -> None:
    case = turned("decoder")
    graph = jc.trace(case.apply, case.variables, INPUTS)
    labelled = label_program(read(case.apply, case.variables, (INPUTS,)), discover=False)
    made = plan(graph, labelled, graph.streams[0])
    rotation = first_rotation(16, has_ones=True)
    rotation = rotation[:, np.random.default_rng(0).permutation(16)]
    if wrong == "longer":
        rotation = rotation * 1.1
    elif wrong == "skewed":
        rotation = rotation + 0.1 * np.tri(16)
    elif wrong == "one left out":
        axes = {path: axes for path, axes in made.axes.items() if "layer0/down" not in path}
        made = made._replace(axes=axes)
    leaves, treedef = flatten_with_paths(case.variables)
    small = {**leaves, **turned_leaves(made, rotation, leaves)}
    if wrong == "transposed":
        path = "params/layer0/down/kernel"
        small[path] = leaves[path] @ rotation.T
    result = outputs(case, case.apply, jax.tree.unflatten(treedef, list(small.values())))
    expected = outputs(case, case.apply, case.variables)
    assert np.abs(result - expected).max() > 1e-3 * np.abs(expected).max()


def test_padding_does_not_count() -> None:
    case = turned("decoder")
    graph = jc.trace(case.apply, case.variables, INPUTS)
    other = {**INPUTS, "tokens": jnp.where(INPUTS["mask"] == 0, 9, INPUTS["tokens"])}
    weights = lambda batch: batch["mask"]  # noqa: E731
    again = jc.rotate(graph, case.apply, case.variables, [other], weights=weights)
    every = jc.rotate(graph, case.apply, case.variables, [other])
    scores = [np.asarray(one.scores[one.group]) for one in (case.rotated, again, every)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)
    assert np.abs(scores[0] - scores[2]).max() > 1e-3


def test_half_precision() -> None:
    case = turned("llama", "bfloat16")
    expected = outputs(case, case.apply, case.variables)
    result = outputs(case, case.function, case.small)
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(case.small))
    np.testing.assert_allclose(result, expected, atol=0.06 * np.abs(expected).max())


def test_training_functions_are_rewritten_and_may_drop_channels() -> None:
    case = turned("gpt2")
    module = MODULES["gpt2"].clone(dropout=0.5)
    train = case.rotated.compression.function(models.training_function(module))
    one, _ = jax.jit(train)(case.small, INPUTS, jax.random.key(0))
    two, _ = jax.jit(train)(case.small, INPUTS, jax.random.key(1))
    assert np.isfinite(one).all() and np.abs(one - two).max() > 1e-3


def test_optimizer_state_of_what_turned_starts_again() -> None:
    case = turned("gpt2")
    tx = optax.adam(1e-3)
    state = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tx.init(tree)))(case.variables)
    new = case.rotated.compression.optimizer_state(tx, state)
    shapes = jax.tree.map(jnp.shape, new[0].mu)
    assert shapes == jax.tree.map(jnp.shape, case.small)
    moments = new[0].mu["params"]
    assert not moments["token_embedding"]["embedding"].any()
    assert moments["layer0"]["mlp_expand"]["bias"].all()


def test_shapes_alone_are_turned_too() -> None:
    case = turned("gpt2")
    shapes = jax.eval_shape(lambda: case.variables)
    made = case.rotated.compression.variables(shapes)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, case.small)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(made))


def test_the_mean_stays_the_last_direction() -> None:
    reflection = first_rotation(5, has_ones=True)
    np.testing.assert_allclose(reflection @ reflection.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(reflection[:, -1], 5**-0.5, atol=1e-12)
    directions, shares = principal_directions(np.diag([1.0, 2.0, 5.0]), has_ones=True)
    np.testing.assert_allclose(np.abs(directions), np.eye(3)[:, [1, 0, 2]], atol=1e-12)
    np.testing.assert_allclose(shares, [0.25, 0.125, 0.625])
