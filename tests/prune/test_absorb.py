"""`absorb`: what removed channels carried on average stays, in the biases behind them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.annotations import Array, PyTree
from jaxcompress.prune import absorb
from tests.prune.absorbed import GOES, IMAGES, Case, dense, dense_case
from tests.toys.record import draw, initial


def two_paths(variables: PyTree, x: Array) -> Array:
    """Both kernels add to one bias, through a reshape and beside a constant."""
    hidden = nn.relu(x @ variables["a"] + variables["c"])
    other = nn.softplus(x @ variables["a2"] + variables["c2"])
    both = (hidden @ variables["b"]).reshape(-1, 2, 2) + (other @ variables["b2"]).reshape(-1, 2, 2)
    return (both + 1.0) + variables["d"].reshape(2, 2)


def heads(variables: PyTree, x: Array) -> Array:
    hidden = nn.relu(x @ variables["a"] + variables["c"]).reshape(-1, 4, 2)
    return jnp.einsum("ohd,bhd->bo", variables["out"], hidden) + variables["d"]


def channels_first(variables: PyTree, x: Array) -> Array:
    numbers: dict[str, Any] = {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}
    images = x.transpose(0, 3, 1, 2)
    images = jax.lax.conv_general_dilated(images, variables["a"], (1, 1), "SAME", **numbers)
    hidden = nn.relu(images + variables["c"][None, :, None, None])
    made = jax.lax.conv_general_dilated(
        hidden, variables["b"], (2, 1), "VALID", feature_group_count=2, **numbers
    )
    return made - variables["d"].reshape(-1, 1, 1)


class Normed(nn.Module):
    """A kernel without a bias, before a BatchNorm."""

    window: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        norm = lambda: nn.BatchNorm(use_running_average=True)  # noqa: E731
        x = nn.softplus(norm()(nn.Conv(8, (3, 3), use_bias=False)(x)))
        window = (self.window, self.window)
        return norm()(nn.Conv(4, window, padding=self.padding, use_bias=False)(x))


def normed(module: nn.Module) -> Case:
    return (lambda v, x: module.apply(v, x)), initial(module, IMAGES), IMAGES


def first_shapes() -> dict[str, tuple[int, ...]]:
    return {"a": (8, 3, 3, 3), "c": (8,), "b": (4, 4, 3, 3), "d": (4,)}


CASES: dict[str, Callable[[], Case]] = {
    "dense": dense_case,
    "jitted": lambda: dense_case(jax.jit(dense)),
    "rematerialised": lambda: dense_case(jax.checkpoint(dense)),
    "two paths": lambda: dense_case(two_paths, a2=(3, 8), c2=(8,), b2=(8, 4)),
    "heads": lambda: dense_case(heads, out=(4, 4, 2)),
    "channels first": lambda: (channels_first, draw(1, first_shapes()), IMAGES),
    "pointwise": lambda: normed(Normed()),
    "window": lambda: normed(Normed(3, "VALID")),
}


def with_constants(graph: jc.Graph, variables: PyTree) -> tuple[Any, dict[str, np.ndarray]]:
    """Make channels constant, by kernels of zeros, and say that they go."""
    keep: dict[str, np.ndarray] = {}
    leaves, treedef = jc.graph.flatten_with_paths(variables)
    for name, group in graph.groups.items():
        if group.consumers:
            keep[name] = ~GOES[: group.width] if group.width > 4 else np.arange(group.width) > 0
            for member in group.producers:
                gone = member.indices[~keep[name]].ravel()
                leaf = np.array(leaves[member.path])
                np.moveaxis(leaf, member.axis, 0)[gone] = 0
                leaves[member.path] = jax.device_put(leaf)
    return jax.tree.unflatten(treedef, list(leaves.values())), keep


@pytest.mark.parametrize("name", CASES)
def test_removing_constants_changes_nothing(name: str) -> None:
    apply, variables, x = CASES[name]()
    graph = jc.trace(apply, variables, x)
    variables, keep = with_constants(graph, variables)
    result = absorb(graph, apply, variables, [x[:1], x[1:]], keep)
    kernels = {c.path for group in keep for c in graph.groups[group].consumers}
    assert set(result.leaves) == kernels and not result.left_out
    prune = jc.shrink(graph, keep)
    expected, small = np.asarray(jax.jit(apply)(variables, x)), jax.jit(prune.function(apply))
    outputs = small(prune.variables(result.variables), x)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(outputs, expected, atol=2e-6 * scale)
    assert np.abs(small(prune.variables(variables), x) - expected).max() > 0.01 * scale


def test_under_padding_the_mean_stays() -> None:
    apply, variables, x = normed(Normed(3))
    graph = jc.trace(apply, variables, x)
    (name,) = graph.groups
    keep = {name: ~GOES}
    result, prune = absorb(graph, apply, variables, [x], keep), jc.shrink(graph, keep)
    small, expected = jax.jit(prune.function(apply)), jax.jit(apply)(variables, x)
    made = [small(prune.variables(v), x) for v in (variables, result[0])]
    lost = [np.asarray(output) - np.asarray(expected) for output in made]
    plain, absorbed = (np.abs(difference.mean((0, 1, 2))).max() for difference in lost)
    assert absorbed < 1e-5 < 0.01 < plain
    assert list(result.leaves.values()) == ["batch_stats/BatchNorm_1/mean"]


def test_where_nothing_goes_nothing_is_read() -> None:
    apply, variables, x = dense_case()
    graph = jc.trace(apply, variables, x)

    unread: Any = iter(lambda: pytest.fail("a batch was read"), None)
    for keep in ({}, {"a[1]": np.ones(8, bool)}):
        assert absorb(graph, apply, variables, unread, keep).variables is variables


def test_inside_jit() -> None:
    apply, variables, x = dense_case()
    graph, keep = jc.trace(apply, variables, x), {"a[1]": GOES}
    plain = absorb(graph, apply, variables, [x], keep).variables
    compiled = jax.jit(lambda v, b: absorb(graph, apply, v, [b], keep).variables)(variables, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), plain, compiled)


def test_half_precision_is_summed_in_float32() -> None:
    """A sum of 4,096 ones, and one of 512 products, are exact: bfloat16 would stop at 256."""
    variables = {
        "a": jnp.zeros((3, 512), jnp.bfloat16),
        "c": jnp.ones(512, jnp.bfloat16),
        "b": jnp.ones((512, 4), jnp.bfloat16),
        "d": jnp.zeros(4, jnp.bfloat16),
    }
    x = jnp.ones((4096, 3), jnp.bfloat16)
    graph, keep = jc.trace(dense, variables, x), {"a[1]": np.arange(512) == 0}
    result = absorb(graph, dense, variables, [x], keep)
    assert {leaf.dtype.name for leaf in result.variables.values()} == {"bfloat16"}
    np.testing.assert_array_equal(result.variables["d"], jnp.full(4, 511.0, jnp.bfloat16))


def test_what_was_absorbed_is_saved_and_shrunk_again(tmp_path: Path) -> None:
    apply, variables, x = dense_case()
    graph, keep = jc.trace(apply, variables, x), {"a[1]": np.arange(8) > 0}
    prune = jc.shrink(graph, keep)
    first = prune.variables(absorb(graph, apply, variables, [x], keep).variables)
    small = prune.function(apply)
    again, keep = jc.trace(small, first, x), {"a[1]": np.arange(7) > 1}
    second = jc.shrink(again, keep)
    last = second.variables(absorb(again, small, first, [x], keep).variables)
    both = jc.chain(prune, second)
    jc.save(tmp_path / "small", both, last)
    function, loaded = jc.load(tmp_path / "small", apply)
    at_once = absorb(graph, apply, variables, [x], {"a[1]": np.arange(8) > 2})
    np.testing.assert_allclose(loaded["d"], at_once.variables["d"], rtol=1e-5)
    np.testing.assert_array_equal(function(loaded, x), both.function(apply)(last, x))


def test_errors() -> None:
    apply, variables, x = dense_case()
    graph = jc.trace(apply, variables, x)
    with pytest.raises(ValueError, match="no batch"):
        absorb(graph, apply, variables, [], {"a[1]": GOES})
    with pytest.raises(ValueError, match="none of them"):
        absorb(graph, apply, variables, [x], {"nowhere": GOES})
    with pytest.raises(ValueError, match="input means must be finite"):
        absorb(graph, apply, variables, [x * jnp.nan], {"a[1]": GOES})
    with pytest.raises(ValueError, match="variables must be finite"):
        absorb(graph, apply, {**variables, "d": x[0] * jnp.nan}, [x], {"a[1]": GOES})
