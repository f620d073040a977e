"""Toys whose sums over channels stand inside functions with derivative rules of the user."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from tests.toys.leaves import PERCEPTRON, ROWS, WIDTHS
from tests.toys.record import Toy, draw, rows

__all__ = ["TOYS"]


def gradient_inside() -> Toy:
    """A contraction with a derivative rule of the user: twice the gradient that it would have."""

    @jax.custom_vjp
    def mix(hidden: jax.Array, kernel: jax.Array) -> jax.Array:
        return hidden @ kernel

    def backward(saved: Any, cotangent: jax.Array) -> Any:
        hidden, kernel = saved
        return 2 * cotangent @ kernel.T, hidden.T @ cotangent

    mix.defvjp(lambda hidden, kernel: (hidden @ kernel, (hidden, kernel)), backward)

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["first"] + variables["first_bias"])
        return jnp.tanh(mix(hidden, variables["second"])) @ variables["third"]

    return Toy(apply, draw(8, PERCEPTRON), (ROWS,), WIDTHS, ungraded=("first[1]",))


def straight_through_dense() -> Toy:
    """Quantised kernels with the gradients of exact ones: every dense layer is one call."""

    @jax.custom_vjp
    def dense(hidden: jax.Array, kernel: jax.Array) -> jax.Array:
        return hidden @ (jnp.round(7 * kernel) / 7)

    def backward(saved: Any, cotangent: jax.Array) -> Any:
        hidden, kernel = saved
        return cotangent @ kernel.T, hidden.T @ cotangent

    dense.defvjp(lambda hidden, kernel: (dense(hidden, kernel), (hidden, kernel)), backward)

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(dense(inputs, variables["first"]) + variables["first_bias"])
        return dense(jnp.tanh(dense(hidden, variables["second"])), variables["third"])

    return Toy(apply, draw(21, PERCEPTRON), (ROWS,), WIDTHS, ungraded=tuple(WIDTHS))


def eight_bit_dense() -> Toy:
    """A product of 8-bit numbers, whose scale is the largest entry of what is left."""

    def quantised(array: jax.Array) -> tuple[jax.Array, jax.Array]:
        scale = jnp.max(jnp.abs(array)) / 127
        return jnp.round(array / scale).astype(jnp.int8), scale

    @jax.custom_vjp
    def dense(hidden: jax.Array, kernel: jax.Array) -> jax.Array:
        (left, by), (right, scale) = quantised(hidden), quantised(kernel)
        product = jnp.matmul(left, right, preferred_element_type=jnp.int32)
        return product.astype(jnp.float32) * by * scale

    def backward(saved: Any, cotangent: jax.Array) -> Any:
        hidden, kernel = saved
        return cotangent @ kernel.T, hidden.T @ cotangent

    dense.defvjp(lambda hidden, kernel: (dense(hidden, kernel), (hidden, kernel)), backward)

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["first"] + variables["first_bias"])
        return jnp.tanh(dense(hidden, variables["second"])) @ variables["third"]

    options: Any = {"independent": False, "ungraded": tuple(WIDTHS)}
    return Toy(apply, draw(22, PERCEPTRON), (ROWS,), WIDTHS, **options)


def recomputed_attention() -> Toy:
    """Attention that computes its weights again on the way back: heads go, and so do features."""

    def weights(queries: jax.Array, keys: jax.Array) -> jax.Array:
        return jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", queries, keys))

    @jax.custom_vjp
    def attention(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
        return jnp.einsum("bhts,bshd->bthd", weights(queries, keys), values)

    def forward(*operands: jax.Array) -> Any:
        return attention(*operands), operands

    def backward(saved: Any, cotangent: jax.Array) -> Any:
        queries, keys, values = saved
        mixing = weights(queries, keys)
        change = jnp.einsum("bthd,bshd->bhts", cotangent, values)
        change = mixing * (change - jnp.sum(mixing * change, axis=-1, keepdims=True))
        return (
            jnp.einsum("bhts,bshd->bthd", change, keys),
            jnp.einsum("bhts,bthd->bshd", change, queries),
            jnp.einsum("bhts,bthd->bshd", mixing, cotangent),
        )

    attention.defvjp(forward, backward)
    shapes = {"keys": (4, 3, 4), "queries": (4, 3, 4), "values": (4, 3, 5), "head": (3, 5, 2)}

    def apply(variables: Any, tokens: jax.Array) -> jax.Array:
        parts = [
            jnp.einsum("btc,chd->bthd", tokens, variables[name])
            for name in ("queries", "keys", "values")
        ]
        return jnp.einsum("bthd,hdo->bo", attention(*parts), variables["head"])

    groups = {"keys[1]": 3, "keys[2]": 4, "values[2]": 5}
    return Toy(apply, draw(23, shapes), (rows(3, 5, 4),), groups, ungraded=("keys[2]",))


def residual_inside() -> Toy:
    """A block with a derivative rule on a residual stream: it sums over what it returns."""

    @jax.custom_vjp
    def block(hidden: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
        return hidden + jnp.tanh(hidden @ up) @ down

    def backward(saved: Any, cotangent: jax.Array) -> Any:
        hidden, up, down = saved
        inner = jnp.tanh(hidden @ up)
        change = 0.5 * (cotangent @ down.T) * (1 - jnp.square(inner))
        return cotangent + change @ up.T, hidden.T @ change, inner.T @ cotangent

    block.defvjp(lambda *operands: (block(*operands), operands), backward)
    shapes = {"first": (4, 6), "up": (6, 5), "down": (5, 6), "head": (6, 2)}

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["first"])
        for _ in range(2):
            hidden = jnp.tanh(block(hidden, variables["up"], variables["down"]))
        return hidden @ variables["head"]

    groups = {"down[1]": 6, "up[1]": 5}
    names = ("down[1]", "up[1]")
    return Toy(apply, draw(24, shapes), (ROWS,), groups, ungraded=names)


def tangent_inside() -> Toy:
    """A contraction with forward tangents of the user's, and a norm whose mean stays whole."""

    @jax.custom_jvp
    def dense(hidden: jax.Array, kernel: jax.Array) -> jax.Array:
        return hidden @ kernel

    @dense.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (hidden, kernel), (change, other) = primals, tangents
        return dense(hidden, kernel), 2 * (change @ kernel) + hidden @ other

    @jax.custom_jvp
    def normed(hidden: jax.Array) -> jax.Array:
        return hidden * jax.lax.rsqrt(jnp.mean(jnp.square(hidden), axis=-1, keepdims=True) + 1e-3)

    normed.defjvp(lambda primals, tangents: (normed(*primals), tangents[0]))

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["first"] + variables["first_bias"])
        return normed(jnp.tanh(dense(hidden, variables["second"]))) @ variables["third"]

    groups = {"first[1]": 6}
    reason = "a mean over it inside a custom derivative"
    names = ("first[1]",)
    return Toy(apply, draw(25, PERCEPTRON), (ROWS,), groups, frozen=reason, ungraded=names)


def refusing() -> Toy:
    """A derivative rule that refuses one of its operands freezes what it touches."""

    @eqx.filter_custom_vjp
    def scaled(hidden: jax.Array, by: jax.Array) -> jax.Array:
        return hidden * by

    scaled.def_fwd(lambda perturbed, hidden, by: (hidden * by, by))
    scaled.def_bwd(lambda by, cotangent, perturbed, hidden, _: cotangent * by)

    def apply(variables: Any, inputs: jax.Array) -> jax.Array:
        hidden = jnp.tanh(inputs @ variables["first"] + variables["first_bias"])
        hidden = scaled(jnp.tanh(hidden @ variables["second"]), 2 * jnp.ones(()))
        return hidden @ variables["third"]

    groups, reason = {"first[1]": 6}, "custom derivative refuses some operand"
    return Toy(apply, draw(26, PERCEPTRON), (ROWS,), groups, frozen=reason)


TOYS = (
    gradient_inside,
    straight_through_dense,
    eight_bit_dense,
    recomputed_attention,
    residual_inside,
    tangent_inside,
    refusing,
)
