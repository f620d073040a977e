"""Fast convolutions give what the plain ones do, and leave alone what they do not know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcompress import models
from jaxcompress.backend import fast_convolutions, forms, onednn
from jaxcompress.training import init_state, train_step
from tests.toys.record import rows

NUMBERS = ("NHWC", "HWIO", "NHWC")
# height, width, in, out, window, stride, padding
SHAPES = [
    (8, 8, 3, 5, 3, 1, 1),
    (8, 10, 32, 48, 3, 2, 1),
    (9, 7, 4, 6, 3, 2, 1),
    (9, 7, 33, 40, 3, 2, 1),
    (8, 8, 3, 5, 3, 1, 5),
    (2, 2, 3, 5, 1, 8, 17),
    (8, 8, 32, 64, 1, 2, 0),
    (8, 8, 32, 64, 1, 1, 0),
    (14, 14, 3, 64, 7, 2, 3),
    (11, 11, 3, 8, 5, 3, 2),
    (2, 2, 64, 32, 3, 1, 1),
    (1, 1, 64, 32, 3, 1, 1),
]


def primitives(function: Callable[..., Any], *args: Any) -> list[str]:
    """Return the names of all primitives in a function's jaxpr, nested ones included."""

    def names(jaxpr: Any) -> list[str]:
        listed = []
        for equation in jaxpr.eqns:
            listed.append(equation.primitive.name)
            for value in jax.tree.leaves(
                list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")
            ):
                inner = getattr(value, "jaxpr", value)
                listed += names(inner) if hasattr(inner, "eqns") else []
        return listed

    return names(jax.make_jaxpr(function)(*args).jaxpr)


def operands(shape: tuple[int, ...], dtype: Any = jnp.float32) -> tuple[jax.Array, jax.Array]:
    height, width, into, out, window, _, _ = shape
    images, kernel = rows(16, height, width, into), rows(window, window, into, out, seed=1)
    return jax.device_put((np.asarray(images, dtype), np.asarray(kernel, dtype)))


def with_gradients(stride: int, padding: int, **more: Any) -> Callable[..., Any]:
    def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
        pads = [(padding, padding)] * 2
        return jax.lax.conv_general_dilated(
            images, kernel, (stride, stride), pads, dimension_numbers=NUMBERS, **more
        )

    def all_three(images: jax.Array, kernel: jax.Array) -> Any:
        result, backward = jax.vjp(convolve, images, kernel)
        given = np.random.default_rng(3).normal(size=result.shape).astype(result.dtype)
        return result, *backward(jnp.asarray(given))

    return all_three


def largest_error(actual: Any, wanted: Any) -> float:
    def error(a: jax.Array, b: jax.Array) -> float:
        one, other = np.asarray(a, np.float32), np.asarray(b, np.float32)
        return np.abs(one - other).max() / max(np.abs(other).max(), 1e-30)

    return max(map(float, jax.tree.leaves(jax.tree.map(error, actual, wanted))))


needs_onednn = pytest.mark.skipif(
    not onednn.available(), reason="this jaxlib is not known to carry oneDNN"
)


@needs_onednn
@pytest.mark.parametrize("shape", SHAPES)
def test_result_and_gradients_are_those_of_the_plain_convolution(shape: tuple[int, ...]) -> None:
    images, kernel = operands(shape)
    function = with_gradients(*shape[-2:])
    wanted = jax.jit(function)(images, kernel)
    actual = jax.jit(fast_convolutions(function))(images, kernel)
    assert [array.shape for array in actual] == [array.shape for array in wanted]
    assert largest_error(actual, wanted) < 5e-6


@needs_onednn
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0] > 2])
def test_gradients_of_kernels_are_sums_over_rows(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, kernel = operands(shape)
    function = with_gradients(*shape[-2:])
    whole = primitives(fast_convolutions(function), images, kernel).count("ffi_call")
    monkeypatch.setattr(forms, "WHOLE", 0)
    for part in (1, 2 * images[:, :1].nbytes):
        monkeypatch.setattr(forms, "PART", part)
        fast = fast_convolutions(function)
        if shape[4] == 3:
            assert primitives(fast, images, kernel).count("ffi_call") > whole
        wanted = jax.jit(function)(images, kernel)
        assert largest_error(jax.jit(fast)(images, kernel), wanted) < 5e-6


@needs_onednn
def test_in_bfloat16() -> None:
    shape = SHAPES[1]
    images, kernel = operands(shape, jnp.bfloat16)
    function = with_gradients(*shape[-2:])
    actual = jax.jit(fast_convolutions(function))(images, kernel)
    assert all(array.dtype == jnp.bfloat16 for array in actual)
    exact = jax.jit(function)(np.asarray(images, np.float32), np.asarray(kernel, np.float32))
    # Each of the two roundings (result, then gradient) is half of 2^-8.
    assert largest_error(actual, exact) < 2**-7


@needs_onednn
@pytest.mark.parametrize("flags", ["fma avx2", "fma avx2 avx512f avx512bw avx512vl avx512dq"])
def test_bfloat16_is_left_to_the_compiler_where_onednn_needs_more_of_the_processor(
    flags: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self: f"processor: 0\nflags\t: {flags}\n")
    onednn.dtypes.cache_clear()
    try:
        assert ("bfloat16" in onednn.dtypes()) == ("avx512f" in flags)
    finally:
        onednn.dtypes.cache_clear()


@needs_onednn
def test_it_calls_onednn() -> None:
    images, kernel = operands(SHAPES[1])
    names = primitives(fast_convolutions(with_gradients(2, 1)), images, kernel)
    # One forward, four phases, one gradient of the kernel.
    assert names.count("ffi_call") == 6


@needs_onednn
@pytest.mark.parametrize("size", [1, 2])
def test_one_image_smaller_than_the_kernel_calls_it_too(size: int) -> None:
    image, kernel = operands((size, size, 64, 32, 3, 1, 1))

    def convolve(image: jax.Array, kernel: jax.Array) -> jax.Array:
        pads = [(1, 1), (1, 1)]
        return jax.lax.conv_general_dilated(image, kernel, (1, 1), pads, dimension_numbers=NUMBERS)

    assert primitives(fast_convolutions(convolve), image[:1], kernel).count("ffi_call") == 1


def test_grouped_and_float16_convolutions_stay() -> None:
    images = jnp.ones((2, 8, 8, 4))
    for kernel, more in (
        (jnp.ones((3, 3, 2, 4)), {"feature_group_count": 2}),
        (jnp.ones((3, 3, 4, 2), jnp.float16), {}),
    ):
        cast = images.astype(kernel.dtype)
        function = with_gradients(1, 1, **more)
        fast = fast_convolutions(function)
        assert "ffi_call" not in primitives(fast, cast, kernel)
        assert largest_error(fast(cast, kernel), function(cast, kernel)) == 0


def test_trees_and_keywords_pass() -> None:
    fast = fast_convolutions(lambda x, *, y: {"sum": x["a"] + y, "none": None})
    result = fast({"a": jnp.float32(1)}, y=2.0)
    assert result["none"] is None and float(result["sum"]) == 3.0


@needs_onednn
def test_training_steps_of_a_network_agree() -> None:
    module = models.ResNet(depth=8)
    variables = models.initialize(module, jax.random.key(0), (1, 32, 32, 3))
    train = models.training_function(module)
    batch = {
        "image": rows(16, 32, 32, 3),
        "label": jnp.arange(16) % 10,
    }

    def loss(params: Any, batch: Any, key: jax.Array) -> Any:
        logits, state = train(params, batch["image"], key)
        values = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return values.mean(), (state, {})

    tx = optax.sgd(0.01, momentum=0.9)
    step, key = train_step(loss, tx), jax.random.key(2)
    plain, fast = (jax.jit(function) for function in (step, fast_convolutions(step)))
    state = init_state(variables, tx)
    wanted, actual = plain(state, batch, key)[0], fast(state, batch, key)[0]
    for a, b in zip(
        jax.tree.leaves(wanted.variables), jax.tree.leaves(actual.variables), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_without_onednn_plain_convolutions_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "available", lambda: False)
    shape = SHAPES[1]
    function, given = with_gradients(*shape[-2:]), operands(shape, jnp.float32)
    assert str(jax.make_jaxpr(fast_convolutions(function))(*given)).count("ffi_call") == 0
