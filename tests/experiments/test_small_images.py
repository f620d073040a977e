"""Convolutions of small images as products: the same values and gradients, nothing else changed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.small_images import as_products
from jaxcompress import models

RANDOM = np.random.default_rng(0)


def draw(*shape: int) -> jax.Array:
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


def names(function: Any, *args: Any) -> list[str]:
    return [equation.primitive.name for equation in jax.make_jaxpr(function)(*args).eqns]


@pytest.mark.parametrize(
    ("image", "kernel", "strides", "padding"),
    [
        ((3, 2, 2, 5), (3, 3, 5, 7), (1, 1), "SAME"),
        ((3, 2, 2, 5), (3, 1, 5, 7), (1, 1), "SAME"),
        ((3, 4, 2, 5), (5, 5, 5, 7), (2, 1), ((2, 2), (3, 1))),
    ],
)
def test_values_and_gradients_are_the_same(
    image: Any, kernel: Any, strides: Any, padding: Any
) -> None:
    def plain(images: jax.Array, weights: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, weights, strides, padding, dimension_numbers=numbers
        )

    args = draw(*image), draw(*kernel)
    product = as_products(plain)
    assert "conv_general_dilated" not in names(product, *args)
    np.testing.assert_allclose(product(*args), plain(*args), rtol=1e-4, atol=1e-4)
    slopes = [
        jax.grad(lambda *own, f=f: jnp.sin(f(*own)).sum(), argnums=(0, 1))(*args)
        for f in (plain, product)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), *slopes)


def test_a_network_trains_alike() -> None:
    module = models.build("vgg19_bn", width=2)
    images = draw(4, 32, 32, 3)
    variables = models.initialize(module, jax.random.key(0), images.shape)
    train = models.training(module)
    args = variables, images, jax.random.key(1)
    expected, found = train(*args), jax.jit(as_products(train))(*args)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3), found, expected
    )
    left = names(as_products(train), *args).count("conv_general_dilated")
    assert (names(train, *args).count("conv_general_dilated"), left) == (16, 12)


def test_other_convolutions_stay() -> None:
    def grouped(images: jax.Array, weights: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, weights, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=2
        )

    args = draw(1, 2, 2, 4), draw(3, 3, 2, 4)
    assert names(as_products(grouped), *args) == ["conv_general_dilated"]
    np.testing.assert_array_equal(as_products(grouped)(*args), grouped(*args))
