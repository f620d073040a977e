"""What `absorb` finds no leaf for stays as it is, and is named with the reason."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.prune import absorb
from tests.prune.absorbed import GOES, dense, dense_case


def shared_kernel(variables: PyTree, x: Array) -> Array:
    hidden = nn.relu(x @ variables["a"] + variables["c"])
    return (hidden @ variables["b"] + variables["d"]) * (nn.tanh(hidden) @ variables["b"])


def shared_bias(variables: PyTree, x: Array) -> Array:
    return dense(variables, x) * variables["d"]


def read_twice(variables: PyTree, x: Array) -> Array:
    made = nn.relu(x @ variables["a"] + variables["c"]) @ variables["b"]
    return nn.tanh(made + variables["d"]) + made


def no_bias(variables: PyTree, x: Array) -> Array:
    return nn.tanh(nn.relu(x @ variables["a"] + variables["c"]) @ variables["b"]) + variables["d"]


def output(variables: PyTree, x: Array) -> Array:
    return nn.relu(x @ variables["a"] + variables["c"]) @ variables["b"]


def looped(variables: PyTree, x: Array) -> Array:
    start = jnp.zeros((len(x), 4))
    return jax.lax.scan(lambda state, _: (state + dense(variables, x), None), start, length=2)[0]


def one_number(variables: PyTree, x: Array) -> Array:
    return output(variables, x) + variables["d"].sum() + variables["number"]


def grouped(variables: PyTree, x: Array) -> Array:
    """Whole groups go: the lanes that `b` sums over all stay, and nothing is lost there."""
    numbers: dict[str, Any] = {"dimension_numbers": ("NCH", "OIH", "NCH")}
    made = x @ variables["a"] + variables["c"]
    kernel = variables["groups"]
    made = jax.lax.conv_general_dilated(
        made[..., None], kernel, (1,), "VALID", feature_group_count=4, **numbers
    )
    return nn.tanh(made[..., 0]) @ variables["b"] + variables["d"]


LEFT_OUT: dict[str, tuple[Function, str]] = {
    "shared kernel": (shared_kernel, "used several times"),
    "shared bias": (shared_bias, "d is read elsewhere too"),
    "read twice": (read_twice, "read 2 times"),
    "no bias": (no_bias, "before 'tanh'"),
    "output": (output, "is an output"),
    "loop": (looped, "loop"),
    "one number": (one_number, "is an output"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_nothing_takes_is_left_out_by_name(name: str) -> None:
    apply, reason = LEFT_OUT[name]
    _, variables, x = dense_case(number=())
    graph = jc.trace(apply, variables, x)
    result = absorb(graph, apply, variables, [x], {"a[1]": GOES})
    assert result.leaves == {} and list(result.left_out) == ["b"] and reason in result.left_out["b"]
    jax.tree.map(np.testing.assert_array_equal, result.variables, variables)


def test_kernels_that_are_no_leaves_are_left_out_by_line() -> None:
    def apply(variables: PyTree, x: Array) -> Array:
        return dense({**variables, "b": variables["b"] / 2}, x)

    _, variables, x = dense_case()
    result = absorb(jc.trace(apply, variables, x), apply, variables, [x], {"a[1]": GOES})
    ((line, reason),) = result.left_out.items()
    assert "absorbed.py" in line and reason == "its kernel is no leaf" and not result.leaves


def test_groups_that_go_as_a_whole_lack_nothing() -> None:
    apply, variables, x = dense_case(grouped, groups=(8, 2, 1))
    graph = jc.trace(apply, variables, x)
    keep = {name: np.arange(group.width) > 0 for name, group in graph.groups.items()}
    result = absorb(graph, apply, variables, [x], keep)
    assert result.leaves == {"b": "d"} and not result.left_out
