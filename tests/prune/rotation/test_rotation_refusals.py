"""What no rotation passes is refused with its line, before a batch is read."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.annotations import Array, PyTree
from tests.toys.record import draw, rows

X = rows(8, 3)
SHAPES = {"in": (3, 4), "up": (4, 6), "down": (6, 4), "out": (4, 2), "scale": (4,), "bias": (6,)}
VARIABLES = draw(0, SHAPES)
TABLE = jnp.asarray(np.random.default_rng(0).normal(size=4), jnp.float32)


def norm(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)


def network(change: Any) -> Any:
    """Make a network whose stream is changed before it is read."""

    def apply(v: PyTree, x: Array) -> Array:
        stream = x @ v["in"]
        stream = stream + jnp.tanh(change(v, norm(stream)) @ v["up"] + v["bias"]) @ v["down"]
        return norm(stream) @ v["out"]

    return apply


REFUSED = {
    "nonlinearity": (lambda v, x: jnp.tanh(x), "'tanh' acts on single channels"),
    "relu": (lambda v, x: jax.nn.relu(x), "custom_jvp_call' has rules|'max' acts on single"),
    "scaled, then a nonlinearity": (lambda v, x: jnp.sin(x * v["scale"]), "'sin' acts on single"),
    "gate": (lambda v, x: x * (x * v["scale"]) * x, "multiplied or divided, each in its way"),
    "computed scale": (lambda v, x: x * (1 + v["scale"]), "contracted with what does not turn"),
    "constant table": (lambda v, x: x + TABLE, "what is no leaf is added to its channels"),
    "constant scale": (lambda v, x: x * TABLE, "multiplied or divided, each in its way"),
    "maximum": (lambda v, x: x / x.max(-1, keepdims=True), "'reduce_max' acts on its channels"),
    "softmax": (lambda v, x: jax.nn.softmax(x), "acts on its channels|acts on single channels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_rotation_does_not_pass_is_refused_with_its_line(name: str) -> None:
    change, message = REFUSED[name]
    apply = network(change)
    graph = jc.trace(apply, VARIABLES, X)
    group = next(n for n, one in graph.groups.items() if any(m.path == "in" for m in one.members))
    with pytest.raises(ValueError, match=message) as refused:
        jc.rotate(graph, apply, VARIABLES, [X], group=group)
    assert "test_rotation_refusals.py:" in str(refused.value) and group in str(refused.value)


def test_a_stack_of_scales_is_none_of_them() -> None:
    def stacked(v: PyTree, x: Array) -> Array:
        return x * jnp.concatenate([v["out"][None, :, 0], v["scale"][None]])[0]

    apply = network(stacked)
    with pytest.raises(ValueError, match="contracted with what does not turn"):
        jc.rotate(jc.trace(apply, VARIABLES, X), apply, VARIABLES, [X])


def test_a_leaf_that_is_added_or_scales_is_no_reason() -> None:
    """Scale and shift before a kernel with a bias go into it; a shift alone is turned."""
    for change in (
        lambda v, x: x * v["scale"] + v["shift"],
        lambda v, x: (v["shift"] + x) * 3 - x.mean(-1, keepdims=True),
    ):
        apply, variables = network(change), {**VARIABLES, "shift": jnp.arange(4.0)}
        rotated = jc.rotate(jc.trace(apply, variables, X), apply, variables, [X])
        small = rotated.compression.variables(variables)
        result = rotated.compression.function(apply)(small, X)
        np.testing.assert_allclose(result, apply(variables, X), atol=1e-5)
        assert not rotated.matrices
        is_scaled = np.abs(np.asarray(small["scale"]) - 1).max() < 1e-6
        assert is_scaled == (np.abs(np.asarray(small["bias"]) - variables["bias"]).max() > 1e-2)


def test_which_stream_is_said() -> None:
    apply = network(lambda v, x: x)
    graph = jc.trace(apply, VARIABLES, X)
    with pytest.raises(ValueError, match=r"\['nothing'\] are none of them"):
        jc.rotate(graph, apply, VARIABLES, [X], group="nothing")
    plain = lambda v, x: jnp.tanh(x @ v["in"]) @ v["out"]  # noqa: E731
    small = {name: VARIABLES[name] for name in ("in", "out")}
    with pytest.raises(ValueError, match="its streams are none; name one"):
        jc.rotate(jc.trace(plain, small, X), plain, small, [X])


def test_channels_that_lie_apart_are_refused() -> None:
    def joined(v: PyTree, x: Array) -> Array:
        return jnp.concatenate([x @ v["in"], x @ v["in2"]], -1) @ v["wide"]

    variables = draw(1, {"in": (3, 4), "in2": (3, 4), "wide": (8, 2)})
    graph = jc.trace(joined, variables, X)
    with pytest.raises(ValueError, match=r"all of it, once and in one order.* but wide\[0\] do"):
        jc.rotate(graph, joined, variables, [X], group="in[1]")
    turned = network(lambda v, x: x[:, ::-1])
    with pytest.raises(ValueError, match=r"one order, .* but up\[0\] do"):
        jc.rotate(jc.trace(turned, VARIABLES, X), turned, VARIABLES, [X])
    whole = {**VARIABLES, "up": jnp.ones((4, 6), jnp.int8)}
    stored = network(lambda v, x: x)
    with pytest.raises(ValueError, match=r"hold floats, but up \(int8\) do not"):
        jc.rotate(jc.trace(stored, whole, X), stored, whole, [X])


def test_a_stream_that_no_leaf_reads_has_no_directions() -> None:
    def cosine(v: PyTree, x: Array) -> Array:
        kernel = v["up"] / jnp.linalg.norm(v["up"], axis=0, keepdims=True)
        return norm(x @ v["in"]) @ kernel

    variables = {name: VARIABLES[name] for name in ("in", "up")}
    graph = jc.trace(cosine, variables, X)
    with pytest.raises(ValueError, match=r"no leaf reads in\[1\]; fold"):
        jc.rotate(graph, cosine, variables, [X], group="in[1]")


def test_data_is_there_and_finite() -> None:
    apply = network(lambda v, x: x)
    graph = jc.trace(apply, VARIABLES, X)
    nan = {**VARIABLES, "up": VARIABLES["up"].at[0, 0].set(jnp.nan)}
    with pytest.raises(ValueError, match="number of variables must be finite, but .*: up;"):
        jc.rotate(graph, apply, nan, [X])
    with pytest.raises(ValueError, match="there is no batch"):
        jc.rotate(graph, apply, VARIABLES, [])
    with pytest.raises(ValueError, match="the stream's covariance must be finite"):
        jc.rotate(graph, apply, VARIABLES, [X.at[0, 0].set(jnp.nan)])
    with pytest.raises(ValueError, match="no position of a batch counts"):
        jc.rotate(graph, apply, VARIABLES, [X], weights=lambda batch: jnp.zeros(len(batch)))


def test_a_function_that_uses_the_stream_otherwise_is_refused() -> None:
    centred = network(lambda v, x: x - x.mean(-1, keepdims=True))
    rotated = jc.rotate(jc.trace(centred, VARIABLES, X), centred, VARIABLES, [X])
    other = rotated.compression.function(network(lambda v, x: jnp.tanh(x)))
    with pytest.raises(ValueError, match=r"does with .* what the rotated one did, but .*'tanh'"):
        other(rotated.compression.variables(VARIABLES), X)


def convolved(groups: int) -> Any:
    """Make a network that reads its stream by a convolution of 3 x 3."""
    numbers = ("NHWC", "HWIO", "NHWC")

    def apply(v: PyTree, x: Array) -> Array:
        stream = jnp.einsum("bhwc,cd->bhwd", x, v["in"])
        read = jax.lax.conv_general_dilated(
            norm(stream), v["window"], (1, 1), "SAME", None, None, numbers, groups
        )
        stream = stream + jnp.einsum("bhwc,cd->bhwd", jnp.tanh(read), v["down"])
        return norm(stream).mean((1, 2)) @ v["out"]

    return apply


def test_convolutions_read_a_stream_unless_each_channel_alone() -> None:
    images = rows(2, 5, 5, 3)
    shapes = {"in": (3, 4), "window": (3, 3, 4, 4), "down": (4, 4), "out": (4, 2)}
    whole, variables = convolved(1), draw(2, shapes)
    rotated = jc.rotate(jc.trace(whole, variables, images), whole, variables, [images])
    small = rotated.compression.variables(variables)
    np.testing.assert_allclose(whole(small, images), whole(variables, images), atol=1e-5)
    assert np.abs(small["window"] - variables["window"]).max() > 1e-2
    depthwise, variables = convolved(4), draw(2, {**shapes, "window": (3, 3, 1, 4)})
    graph = jc.trace(depthwise, variables, images)
    with pytest.raises(ValueError, match="channels are no longer apart"):
        jc.rotate(graph, depthwise, variables, [images], group=graph.streams[0])
