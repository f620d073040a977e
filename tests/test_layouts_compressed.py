"""Variables split over devices, compressed: the same results, split as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh

import jaxcompress as jc
from jaxcompress.low_rank import spreading
from jaxcompress.training import init_state
from tests.laws import close
from tests.split_variables import (
    GRAPH,
    IMAGES,
    TX,
    VARIABLES,
    apply,
    check_split,
    each_mesh,
    prune_to,
    same,
    split_over,
)

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")


@each_mesh
@pytest.mark.parametrize("width", [16, 6])
def test_shrinking_keeps_what_is_split_so(mesh: Mesh, width: int) -> None:
    """Where the new width divides, and where it does not: then along another axis."""
    split = split_over(mesh)
    prune = prune_to(width)
    small = prune.variables(split)
    same(small, prune.variables(VARIABLES))
    check_split(small, mesh)
    function = prune.function(apply)
    close(jax.jit(function)(small, IMAGES), function(prune.variables(VARIABLES), IMAGES), 1e-5)
    state = init_state(split, TX).opt_state
    smaller = prune.optimizer_state(TX, state)
    check_split(smaller[0].mu, mesh)
    expected = init_state(small, TX).opt_state
    assert jax.tree.map(jnp.shape, smaller) == jax.tree.map(jnp.shape, expected)


@each_mesh
def test_factors_are_split_and_made_one_kernel_at_a_time(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = split_over(mesh)
    lowrank = jc.factorize(GRAPH, {"params/second/kernel": 8, "params/first/kernel": 6})
    seen, fit = [], spreading.fit_layout

    def watched(*arguments: Any) -> Any:
        seen.append(arguments[1])
        return fit(*arguments)

    monkeypatch.setattr(spreading, "fit_layout", watched)
    small = lowrank.variables(split)
    assert seen == [(3, 3, 8, 32)] * 2 + [(32, 64)] * 2
    same(small, lowrank.variables(VARIABLES))
    check_split(small["params"], mesh)
    state = lowrank.optimizer_state(TX, init_state(split, TX).opt_state)
    check_split(state[0].mu, mesh)
    expected = init_state(small, TX).opt_state
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, expected)
    function = lowrank.function(apply)
    close(jax.jit(function)(small, IMAGES), function(lowrank.variables(VARIABLES), IMAGES), 1e-5)


@each_mesh
def test_a_kernel_with_nan_is_named_where_it_is_split(mesh: Mesh) -> None:
    split = split_over(mesh)
    bad = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan) if leaf.ndim == 4 else leaf, split)
    with pytest.raises(ValueError, match="params/first/kernel hold NaN"):
        jc.factorize(GRAPH, {"params/first/kernel": 6}).variables(bad)


@each_mesh
def test_masks_lie_where_their_leaves_do(mesh: Mesh) -> None:
    split = split_over(mesh)
    masks, desired = (jc.sparse.make_masks(tree, 0.5) for tree in (split, VARIABLES))
    same(masks, desired)
    check_split(masks, mesh)
    sparse = jc.sparsify(split, masks).variables(split)
    same(sparse, jc.sparsify(VARIABLES, desired).variables(VARIABLES))
    check_split(sparse, mesh)
    check_split(jc.sparse.nonzero_masks(sparse), mesh)


@each_mesh
def test_artifacts_hold_the_same_and_come_back_split(mesh: Mesh, tmp_path: Path) -> None:
    split = split_over(mesh)
    prune = prune_to(16)
    small = prune.variables(split)
    lowrank = jc.factorize(
        jc.trace(prune.function(apply), small, IMAGES), {"params/second/kernel": 8}
    )
    both, trees = jc.chain(prune, lowrank), (split, VARIABLES)
    for name, tree in zip(("split", "whole"), trees, strict=True):
        jc.save(tmp_path / name, both, both.variables(tree))
    files = [next((tmp_path / name).rglob("*.safetensors")) for name in ("split", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    structs = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), split
    )
    for like in (split, structs):
        function, loaded = jc.load(tmp_path / "split", apply, like=like)
        same(loaded, both.variables(VARIABLES))
        check_split(loaded["params"], mesh)
    close(function(loaded, IMAGES), both.function(apply)(both.variables(VARIABLES), IMAGES), 1e-5)
