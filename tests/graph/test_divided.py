"""What sums are divided by that are no means: it stays, is shown, and removing is masking."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxcompress as jc
from tests.graph.normed import (
    INPUTS,
    KEEP,
    VARIABLES,
    WIDTH,
    Norm,
    check_law,
    network,
    scanned,
    total,
)
from tests.laws import close

OTHERS: dict[str, tuple[Norm, str]] = {
    "root": (lambda x: x - x.sum(-1, keepdims=True) / jnp.sqrt(x.shape[-1]), "by 4 at"),
    "a tenth": (lambda x: x - x.mean(-1, keepdims=True) - 0.1 * _sum_squared(x), "by 10 at"),
    "used whole too": (lambda x: x - (s := total(x)) / x.shape[-1] + jnp.tanh(s), "by 16 at"),
    "two numbers": (lambda x: x - (s := total(x)) / x.shape[-1] + s / 15, "by 16 at"),
    "after an addition": (lambda x: x - (total(x) + 1) / x.shape[-1], "by 16 at"),
}


def _sum_squared(x: jax.Array) -> jax.Array:
    return jnp.square(x).sum(-1, keepdims=True)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_mean_keeps_its_number_and_is_shown(name: str) -> None:
    norm, words = OTHERS[name]
    apply = network(norm)
    graph = jc.trace(apply, VARIABLES, INPUTS)
    check_law(graph, apply, KEEP)
    assert "a number that stays as it is:\n  a[1]: " + words in str(graph)


def test_gates_of_each_example_are_refused_where_a_loop_over_examples_sums() -> None:
    apply = network(lambda x: x - scanned(x))
    graph = jc.trace(apply, VARIABLES, INPUTS)
    with pytest.raises(ValueError, match="need an operand with an example axis"):
        jc.gated(graph, apply)(VARIABLES, {"a[1]": jnp.ones((len(INPUTS), WIDTH))}, INPUTS)


def test_what_divides_a_kernel_scales_it() -> None:
    def apply(variables: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ variables["a"]) @ variables["b"] / WIDTH

    graph = jc.trace(apply, VARIABLES, INPUTS)
    small = check_law(graph, apply, KEEP)
    expected = apply({"a": VARIABLES["a"][:, KEEP], "b": VARIABLES["b"][KEEP]}, INPUTS)
    close(small, expected, 1e-6)
    assert "a[1]: by 16 at" in str(graph)
