"""What the library compiles itself: fast where nothing is split, the same numbers everywhere."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxcompress import models, parallel, trace
from jaxcompress.annotations import Function, PyTree
from jaxcompress.backend import compiled, compiling, fast_if_large, is_alone
from jaxcompress.models.efficientnet import LiteBlock
from jaxcompress.prune import importance


def total(kernel: jax.Array, images: jax.Array) -> jax.Array:
    """Sum a depthwise convolution's squares; its gradients are the slow ones."""
    numbers = ("NHWC", "HWIO", "NHWC")
    outputs = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=8
    )
    return jnp.square(outputs).sum()


KERNEL = jax.random.normal(jax.random.key(0), (3, 3, 1, 8))
IMAGES = jax.random.normal(jax.random.key(1), (8, 6, 6, 8))


def convolutions(function: Function, *arrays: jax.Array) -> int:
    return str(jax.make_jaxpr(function)(*arrays)).count("conv_general_dilated[")


def test_large_programs_are_rewritten_and_small_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gradient = jax.grad(total)
    assert convolutions(fast_if_large(gradient), KERNEL, IMAGES) == 2
    monkeypatch.setattr(compiling, "LARGE", 1e4)
    expected = jax.jit(gradient)(KERNEL, IMAGES)
    actual = compiled(gradient)(KERNEL, IMAGES)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert "conv_general_dilated" not in jax.jit(fast_if_large(gradient)).lower(
        KERNEL, IMAGES
    ).as_text("hlo")


def test_what_is_split_is_left_to_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_work", lambda _: pytest.fail("it was rewritten"))
    mesh = parallel.mesh()
    batch = parallel.shard_batch(np.asarray(IMAGES), mesh)
    kernel = parallel.replicate(KERNEL, mesh)
    assert is_alone((KERNEL, IMAGES)) and not is_alone((kernel, batch))
    expected = jax.jit(jax.grad(total))(KERNEL, IMAGES)
    for run in (compiled(jax.grad(total)), jax.jit(compiled(jax.grad(total)))):
        np.testing.assert_allclose(run(kernel, batch), expected, rtol=1e-5)


class Depthwise(nn.Module):
    """An inverted residual block, padded as TensorFlow does, and a classifier."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        hidden = LiteBlock(6, expansion=2, window=5, stride=2)(images, train)
        return nn.Dense(3)(hidden.mean((1, 2)))


def test_scores_are_those_of_the_program_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    module, batches = Depthwise(), jax.random.normal(jax.random.key(2), (2, 4, 8, 8, 3))
    variables = models.initialize(module, jax.random.key(0), (1, 8, 8, 3))
    graph = trace(models.evaluation_function(module), variables, batches[0])
    train = models.training_function(module)
    scores = []
    for large in (math.inf, 0):
        monkeypatch.setattr(compiling, "LARGE", large)

        def loss(variables: PyTree, images: jax.Array) -> jax.Array:
            return jnp.square(train(variables, images)[0]).mean()

        scores.append(importance.fisher(graph, loss, variables, batches, key=jax.random.key(1)))
    assert scores[0].keys() == scores[1].keys() != set()
    for name, expected in scores[0].items():
        np.testing.assert_allclose(scores[1][name], expected, rtol=1e-4)
