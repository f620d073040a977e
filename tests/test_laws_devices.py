"""Every pure step gives one result: plain, under jit over a mesh, `jax.pmap`, and `jax.shard_map`.

Eight devices hold two examples each. A step takes the axis's name inside `pmap` and `shard_map`,
as its docstring and `jaxcompress.per_device` ask, and nothing elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxcompress import parallel
from tests.device_steps import BATCH, ON_THE_HOST, STEPS, VARIABLES, Make, searched

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")


def on_a_mesh(make: Make) -> Any:
    mesh = parallel.mesh()
    variables, batch = parallel.replicate(VARIABLES, mesh), parallel.shard_batch(BATCH, mesh)
    return jax.jit(make(None))(variables, batch)


def in_pmap(make: Make) -> Any:
    split = jax.tree.map(lambda leaf: leaf.reshape(8, 2, *leaf.shape[1:]), BATCH)
    mapped = jax.pmap(make("data"), axis_name="data", in_axes=(None, 0))(VARIABLES, split)
    return of_any(mapped)


def of_any(tree: Any) -> Any:
    """Return what all devices say, one after the other along the first axis."""
    tree = jax.tree.map(np.asarray, tree)
    for leaf in jax.tree.leaves(tree):
        np.testing.assert_allclose(leaf, np.broadcast_to(leaf[:1], leaf.shape), rtol=1e-6)
    return jax.tree.map(lambda leaf: leaf[0], tree)


def in_shard_map(make: Make) -> Any:
    mapped = jax.shard_map(
        make("data"), mesh=parallel.mesh(), in_specs=(P(), P("data")), out_specs=P()
    )
    return jax.jit(mapped)(VARIABLES, BATCH)


def in_shard_map_unchecked(make: Make) -> Any:
    def each(variables: Any, batch: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], make("data")(variables, batch))

    specs: Any = {"in_specs": (P(), P("data")), "out_specs": P("data")}
    mapped = jax.shard_map(each, mesh=parallel.mesh(), check_vma=False, **specs)
    return of_any(jax.jit(mapped)(VARIABLES, BATCH))


WAYS: dict[str, Callable[[Make], Any]] = {
    "jit": on_a_mesh,
    "pmap": in_pmap,
    "shard_map with check_vma": in_shard_map,
    "shard_map without check_vma": in_shard_map_unchecked,
}
# `jax.pmap` is `jax.shard_map` without check_vma; that it takes our steps, one of each form shows.
IN_PMAP = ("taylor", "learned gates", "eval_step", "train_step")


def compare(make: Make, expected: Any, ways: Iterable[str]) -> None:
    for way in ways:
        pairs = zip(jax.tree.leaves(WAYS[way](make)), jax.tree.leaves(expected), strict=True)
        for number, (one, other) in enumerate(pairs):
            message = f"by {way}, leaf {number}"
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=message)


@pytest.mark.parametrize("name", STEPS)
def test_one_result_on_one_device_and_on_eight(name: str) -> None:
    step = STEPS[name](None)
    expected = (step if name in ON_THE_HOST else jax.jit(step))(VARIABLES, BATCH)
    compare(STEPS[name], expected, [way for way in WAYS if way != "pmap" or name in IN_PMAP])


def test_local_search_compares_by_the_loss_of_all_devices() -> None:
    expected = jax.jit(searched(None))(VARIABLES, BATCH)
    compare(searched, expected, ["shard_map with check_vma"])
