"""Artifacts of networks of other libraries: their trees come back, given what they are like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxcompress.adapters import from_equinox, from_nnx
from jaxcompress.artifact import load, save
from jaxcompress.compression import chain
from tests.artifact.small import assert_same, half
from tests.trees import structure_of


class NnxNet(nnx.Module):
    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.layers = nnx.List([nnx.Linear(3, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.layers[1](self.dropout(nnx.relu(self.layers[0](x))))


def equinox_net() -> Any:
    return eqx.nn.MLP(3, 2, 6, depth=1, key=jax.random.key(0))


@pytest.mark.parametrize(("adapter", "make"), [(from_nnx, NnxNet), (from_equinox, equinox_net)])
def test_trees_of_other_libraries_come_back(
    tmp_path: Path, adapter: Callable[..., Any], make: Callable[..., Any]
) -> None:
    apply, variables = adapter(make())
    x = jnp.ones((4, 3))
    one = half(apply, variables, x)
    save(tmp_path, one.prune, one.small)
    with pytest.raises(ValueError, match="pass like="):
        load(tmp_path, apply)
    for like in (variables, jax.eval_shape(lambda tree: tree, variables)):
        function, loaded = load(tmp_path, apply, like)
        assert structure_of(loaded) == structure_of(one.small)
        assert_same(loaded, one.small)
        assert_same(function(loaded, x), one.prune.function(apply)(one.small, x))


def test_an_equinox_state_comes_back(tmp_path: Path) -> None:
    pair = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, axis_name="batch", mode="batch")
    apply, variables = from_equinox(pair, train=True)
    save(tmp_path, chain(), variables)
    function, loaded = load(tmp_path, apply, like=variables)
    assert_same(function(loaded, jnp.ones((4, 3))), apply(variables, jnp.ones((4, 3))))
