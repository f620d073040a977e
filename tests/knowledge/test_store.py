"""What is read is what the teacher says, whoever wrote it and in whatever order it is read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxcompress.annotations import Array
from jaxcompress.knowledge import Mix, Views, mixed_views, partners, views
from jaxcompress.knowledge.store import (
    Progress,
    Storage,
    Store,
    intermediates,
    num_bytes,
    open_store,
    plan,
    verify,
    write,
)
from tests.knowledge import toy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "toy"
    toy.write_toy(path)
    return path


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return open_store(folder, variables=toy.VARIABLES, source=toy.SOURCE, about=toy.ABOUT)


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    """Every record `{name: [examples, views, ...]}`, computed without a store."""
    records = []
    for index in range(toy.VIEWS):
        drawn = views(
            toy.KEY,
            np.arange(toy.EXAMPLES),
            index,
            toy.IMAGES,
            settings=toy.SOURCE.settings or Views(),
        )
        records.append(toy.teacher(toy.VARIABLES, drawn))
    return {
        name: np.stack([np.asarray(record[name]) for record in records], 1) for name in records[0]
    }


@pytest.mark.parametrize("batch", [1, 7, 45])
def test_records_are_what_the_teacher_says_in_any_order(
    store: Store, expected: dict[str, np.ndarray], batch: int
) -> None:
    order = np.random.default_rng(batch).permutation(toy.EXAMPLES)[: batch * 3]
    for start in range(0, len(order), batch):
        examples = order[start : start + batch]
        indices = examples % toy.VIEWS
        records = store.read(examples, indices)
        assert records.keys() == expected.keys()
        for name, array in records.items():
            np.testing.assert_array_equal(array, expected[name][examples, indices])


def test_prefetching_and_loading_read_the_same(
    store: Store, expected: dict[str, np.ndarray]
) -> None:
    addresses = [(np.arange(5) + 3 * i, i % toy.VIEWS) for i in range(7)]
    for ahead in (0, 2, 20):
        batches = list(store.prefetch(iter(addresses), ahead=ahead, names=["logits"]))
        assert len(batches) == len(addresses)
        for (examples, index), records in zip(addresses, batches, strict=True):
            np.testing.assert_array_equal(records["logits"], expected["logits"][examples, index])
    for name, array in store.load().items():
        np.testing.assert_array_equal(array, expected[name])


def test_the_next_batches_are_requested_before_they_are_needed(store: Store) -> None:
    asked: list[int] = []

    def addresses() -> Any:
        for index in range(6):
            asked.append(index)
            yield [index], 0

    stream = store.prefetch(addresses(), ahead=2)
    next(stream)
    assert asked == [0, 1, 2]


@pytest.mark.parametrize(("devices", "batch_size"), [(2, 8), (8, 8), (1, 2)])
def test_devices_and_batches_write_the_same_bytes(
    folder: Path, tmp_path: Path, devices: int, batch_size: int
) -> None:
    toy.write_toy(tmp_path, devices=devices, batch_size=batch_size)
    assert toy.files(tmp_path) == toy.files(folder)


@pytest.mark.parametrize(
    ("dtype", "rounding"), [("float32", 0), ("bfloat16", 2**-8), ("float16", 2**-11)]
)
def test_values_hold_to_the_rounding_of_the_dtype(
    tmp_path: Path, expected: dict[str, np.ndarray], dtype: Any, rounding: float
) -> None:
    toy.write_toy(tmp_path, storage=dataclasses.replace(toy.STORAGE, dtype=dtype))
    logits = open_store(tmp_path).load()["logits"]
    assert logits.dtype == jnp.dtype(dtype)
    np.testing.assert_allclose(logits.astype(np.float32), expected["logits"], rtol=rounding)


def test_top_k_keeps_the_largest_and_the_mass_of_the_rest(
    tmp_path: Path, expected: dict[str, np.ndarray]
) -> None:
    storage = Storage(dtype="float32", top_k=2, temperature=4.0, block=8, chunk=8)
    toy.write_toy(tmp_path, storage=storage)
    store = open_store(tmp_path)
    stored, logits = store.load(), expected["logits"]
    ordered = -np.sort(-logits, axis=-1)
    np.testing.assert_array_equal(stored["logits/values"], ordered[..., :2])
    assert stored["logits/indices"].dtype == np.uint16
    indices = stored["logits/indices"].astype(int)
    np.testing.assert_array_equal(np.take_along_axis(logits, indices, -1), ordered[..., :2])
    rest = 4 * np.asarray(jax.nn.logsumexp(ordered[..., 2:] / 4, axis=-1))
    np.testing.assert_allclose(stored["logits/rest"], rest, rtol=1e-6)
    checked = verify(store, toy.teacher, toy.VARIABLES, toy.SOURCE, count=16)
    assert max(checked.largest.values()) < 1e-3


def test_mixed_views_are_stored_under_their_example(tmp_path: Path) -> None:
    mix = Mix("mixup", examples=toy.EXAMPLES)
    source = dataclasses.replace(toy.SOURCE, mix=mix)
    settings = source.settings or Views()
    write(tmp_path, toy.teacher, toy.VARIABLES, source, storage=toy.STORAGE, batch_size=8)
    examples = np.array([40, 3])
    others = np.asarray(partners(toy.KEY, examples, 1, mix=mix))
    images, partner_images = toy.IMAGES[examples], toy.IMAGES[others]
    mixed = mixed_views(
        toy.KEY, examples, 1, images, partner_images, settings=settings, mix=mix
    ).images
    stored = open_store(tmp_path, source=source).read(examples, 1)["block/0"]
    np.testing.assert_array_equal(stored, mixed)


def test_the_plan_tells_the_size_before_anything_is_written(tmp_path: Path) -> None:
    manifest = plan(toy.teacher, toy.VARIABLES, toy.SOURCE, toy.STORAGE)
    assert num_bytes(manifest) == toy.EXAMPLES * toy.VIEWS * (6 + 16) * 4
    seen: list[Progress] = []
    toy.write_toy(tmp_path, on_progress=seen.append)
    assert seen[0].written == 0 and seen[0].num_bytes == num_bytes(manifest)
    assert [progress.written for progress in seen] == list(range(13))
    assert seen[-1].written == seen[-1].blocks == 12 and seen[0].free_bytes > 0


def test_verify_finds_the_record_that_is_wrong(store: Store) -> None:
    good = verify(store, toy.teacher, toy.VARIABLES, toy.SOURCE, count=32)
    assert good.largest == {"logits": 0.0, "block/0": 0.0} and good.scale["logits"] > 100
    other = {"kernel": toy.VARIABLES["kernel"] + 1}
    with pytest.raises(ValueError, match="of 32 records of .* these differ: logits by [^;]*; pass"):
        verify(store, toy.teacher, other, toy.SOURCE, count=32)
    bad = verify(store, toy.teacher, other, toy.SOURCE, count=32, tolerance=np.inf)
    assert bad.largest["logits"] > 100 and bad.largest["block/0"] == 0


class TwoLayers(nn.Module):
    """A body that is called inside a submodule, and a head."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        hidden = nn.Sequential([nn.Dense(3), nn.relu], name="body")(images.reshape(len(images), -1))
        return nn.Dense(2, name="head")(hidden)


def test_intermediates_of_a_linen_module() -> None:
    module, images = TwoLayers(), jnp.ones((4, 2, 2, 1))
    variables = module.init(jax.random.key(0), images)
    teacher = intermediates(module, ["body"], preprocess=lambda x: 2 * x)
    outputs = teacher(variables, images)
    expected: Array = module.apply(variables, 2 * images)
    np.testing.assert_allclose(outputs["logits"], expected)
    head = variables["params"]["head"]
    np.testing.assert_allclose(
        outputs["body"] @ head["kernel"] + head["bias"], outputs["logits"], rtol=1e-5
    )
    with pytest.raises(ValueError, match=r"no \['tail'\].*'Dense_0', 'body', 'head'"):
        intermediates(module, ["tail"])(variables, images)


def test_addresses_do_not_depend_on_the_block(
    folder: Path, tmp_path: Path, expected: dict[str, np.ndarray]
) -> None:
    toy.write_toy(tmp_path, storage=Storage(dtype="float32", block=16, chunk=16))
    records = open_store(tmp_path).load()
    for name, array in records.items():
        np.testing.assert_array_equal(array, expected[name])
