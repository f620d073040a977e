"""Meshes, sharding and padding: the same code for one device and for eight."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxcompress import parallel


@pytest.mark.parametrize("count", [1, 8])
def test_shard_batch_splits_the_leading_axis(count: int) -> None:
    mesh = parallel.mesh(jax.devices()[:count])
    batch = {"image": np.arange(48.0).reshape(16, 3), "label": np.arange(16)}
    sharded = parallel.shard_batch(batch, mesh)
    assert sharded["image"].sharding.shard_shape((16, 3)) == (16 // count, 3)
    np.testing.assert_array_equal(sharded["label"], batch["label"])


def test_replicate_puts_the_whole_on_every_device() -> None:
    mesh = parallel.mesh()
    whole = parallel.replicate({"kernel": np.ones((3, 2)), "key": jax.random.key(0)}, mesh)
    assert len(whole["kernel"].addressable_shards) == len(jax.devices())
    assert whole["kernel"].sharding.is_fully_replicated
    assert whole["key"].sharding.is_fully_replicated


def test_uneven_batches_are_refused_by_name() -> None:
    batch = {"image": np.ones((8, 2)), "label": np.ones(12), "scale": np.float32(1)}
    with pytest.raises(ValueError, match=r"label.*\(12,\).*scale.*pad_batch") as refused:
        parallel.shard_batch(batch, parallel.mesh())
    assert "image" not in str(refused.value)


def test_one_device_takes_what_all_hold() -> None:
    whole = parallel.replicate(
        {"kernel": np.ones((3, 2)), "key": jax.random.key(0)}, parallel.mesh()
    )
    one = parallel.on_one_device(whole)
    assert all(leaf.devices() == {jax.local_devices()[0]} for leaf in jax.tree.leaves(one))
    np.testing.assert_array_equal(parallel.on_host(one["kernel"]), np.ones((3, 2)))


@pytest.mark.parametrize(("size", "padded"), [(1, 8), (8, 8), (9, 16)])
def test_pad_batch_repeats_the_last_example(size: int, padded: int) -> None:
    batch, mask = parallel.pad_batch({"x": np.arange(size, dtype=np.uint8)}, 8)
    assert batch["x"].shape == mask.shape == (padded,)
    assert batch["x"].dtype == np.uint8
    assert mask.sum() == size and mask[:size].all()
    assert (batch["x"][size:] == size - 1).all()


@pytest.mark.parametrize("batch", [{"x": np.ones(0)}, {"x": np.ones(3), "y": np.ones(4)}, {}])
def test_pad_batch_refuses_what_is_no_batch(batch: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="share one leading axis"):
        parallel.pad_batch(batch, 8)
