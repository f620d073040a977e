"""Functions with every kind of site that can be factorized, and what tests ask of one."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.graph import Graph, trace
from tests.toys.record import Toy, draw, rows

IMAGES, TOKENS = rows(3, 8, 8, 6), rows(2, 5, 6)
NHWC = ("NHWC", "HWIO", "NHWC")


def convolution(
    shape: tuple[int, ...],
    numbers: tuple[str, str, str] = NHWC,
    images: Array = IMAGES,
    padding: Any = "SAME",
    **options: Any,
) -> Toy:
    def apply(variables: PyTree, x: Array) -> Array:
        return jax.lax.conv_general_dilated(
            jnp.tanh(x), variables["w"], padding=padding, dimension_numbers=numbers, **options
        )

    return Toy(apply, draw(0, {"w": shape}), (images,), {})


def function(
    apply: Function, shapes: dict[str, tuple[int, ...]], *inputs: Array, tolerance: float = 1e-5
) -> Toy:
    return Toy(apply, draw(1, shapes), inputs, {}, tolerance=tolerance)


def attention(variables: PyTree, x: Array) -> Array:
    query, key, value = jnp.einsum("btd,dnhk->nbthk", x, variables["qkv"])
    weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", query, key))
    return jnp.einsum("bhts,bshk,hkd->btd", weights, value, variables["out"])


def scanned(variables: PyTree, x: Array) -> Array:
    step = lambda hidden, kernel: (jnp.tanh(hidden @ kernel), None)  # noqa: E731
    return jax.lax.scan(step, x, variables["stack"])[0]


def reshaped(variables: PyTree, x: Array) -> Array:
    return x @ variables["w"].reshape(6, 8) + (x @ variables["v"].T.astype(jnp.float32)) * 2


def shared(variables: PyTree, x: Array) -> Array:
    return jnp.tanh(x @ variables["w"]) @ variables["w"]


def rematerialised(variables: PyTree, x: Array) -> Array:
    return jax.checkpoint(lambda w: jax.nn.relu(x @ w) @ variables["v"])(variables["w"])


TOYS = {
    "strided": lambda: convolution((3, 3, 6, 8), window_strides=(2, 2)),
    "unequal": lambda: convolution((5, 3, 6, 4), window_strides=(1, 2), padding=((2, 2), (0, 1))),
    "dilated": lambda: convolution((3, 3, 6, 8), window_strides=(1, 1), rhs_dilation=(2, 2)),
    "transposed": lambda: convolution(
        (3, 3, 6, 8), window_strides=(1, 1), lhs_dilation=(2, 2), padding=((1, 2), (2, 1))
    ),
    "grouped": lambda: convolution((3, 3, 3, 8), window_strides=(2, 1), feature_group_count=2),
    "pointwise": lambda: convolution((1, 1, 6, 8), window_strides=(2, 2)),
    "channels_first": lambda: convolution(
        (8, 6, 3, 3), ("NCHW", "OIHW", "NCHW"), rows(2, 6, 8, 8), window_strides=(2, 2)
    ),
    "one_dimensional": lambda: convolution(
        (3, 6, 8), ("NWC", "WIO", "NWC"), TOKENS, window_strides=(1,)
    ),
    "attention": lambda: function(attention, {"qkv": (6, 3, 2, 4), "out": (2, 4, 6)}, TOKENS),
    "left": lambda: function(
        lambda variables, x: (variables["w"] @ jnp.tanh(x.T)).T, {"w": (4, 6)}, rows(5, 6)
    ),
    "scanned": lambda: function(scanned, {"stack": (3, 6, 6)}, rows(5, 6)),
    "reshaped": lambda: function(reshaped, {"w": (2, 3, 8), "v": (8, 6)}, rows(5, 6)),
    "shared": lambda: function(shared, {"w": (6, 6)}, rows(5, 6)),
    "rematerialised": lambda: function(rematerialised, {"w": (6, 8), "v": (8, 4)}, rows(5, 6)),
}


@functools.cache
def traced(name: str) -> tuple[Toy, Graph]:
    toy = TOYS[name]()
    return toy, trace(toy.apply, toy.variables, *toy.inputs)


def every_form(graph: Graph) -> Iterator[dict[str, str]]:
    """One choice of forms per kind of form that any site offers."""
    names = {form.name for site in graph.sites.values() for form in site.forms}
    for name in sorted(names):
        yield {
            path: name if any(form.name == name for form in site.forms) else site.forms[0].name
            for path, site in graph.sites.items()
        }


def ranks_of(graph: Graph, forms: dict[str, str], share: float) -> dict[str, int]:
    return {
        path: max(1, round(share * graph.sites[path].form(form).full))
        for path, form in forms.items()
    }


def distance(left: Array, right: Array) -> float:
    return float(jnp.abs(left - right).max() / jnp.abs(right).max())


def block() -> tuple[Function, PyTree, Graph]:
    """Two convolutions with a nonlinearity: one group to shrink, two sites."""

    def apply(variables: PyTree, x: Array) -> Array:
        options: dict[str, Any] = {"padding": "SAME", "dimension_numbers": NHWC}
        hidden = jax.lax.conv_general_dilated(x, variables["net"]["a"], (1, 1), **options)
        hidden = jax.nn.relu(hidden + variables["net"]["bias"])
        return jax.lax.conv_general_dilated(hidden, variables["net"]["b"], (2, 2), **options)

    shapes = {"a": (3, 3, 6, 8), "b": (3, 3, 8, 4), "bias": (8,)}
    variables = {"net": draw(2, shapes)}
    return apply, variables, trace(apply, variables, IMAGES)
