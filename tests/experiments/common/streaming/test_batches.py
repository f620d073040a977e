"""Laws of streamed batches: who reads, in what shares and from where on, changes no pixel."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from grain.sharding import ShardOptions

from experiments.common.streaming.batches import Batches, Reading, evaluation, training
from experiments.common.streaming.crops import ASPECTS, Crop, centre, random_box
from experiments.common.streaming.drawn import DrawnViews, source_of, view_of
from experiments.common.streaming.images import Images, splits_of
from experiments.common.streaming.orders import Shuffled
from experiments.common.streaming.pictures import picture
from jaxcompress.knowledge import store
from tests.experiments.common.streaming.jpegs import write_jpegs

CROP, SIZE, EPOCHS = Crop(16, least_area=0.2), 8, 3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = write_jpegs(tmp_path_factory.mktemp("jpegs"), classes=3, each=14)
    return splits_of("folder", folder, test_share=0.1)[0]


def streamed(images: Images, size: int = SIZE, **settings: object) -> Batches:
    order = Shuffled(len(images), size, EPOCHS, seed=1, views=2)
    return training(images, order, CROP, seed=5, **settings)  # type: ignore[arg-type]


def addresses(batches: Iterator[dict[str, np.ndarray]]) -> list[tuple[int, int]]:
    rows = [zip(b["example"].tolist(), b["view"].tolist(), strict=True) for b in batches]
    return list(itertools.chain(*rows))


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


def test_an_epoch_shows_each_example_at_most_once_in_an_order_of_its_own(images: Images) -> None:
    shown, epoch = addresses(streamed(images)), len(images) // SIZE * SIZE
    epochs = [shown[i * epoch : (i + 1) * epoch] for i in range(EPOCHS)]
    assert (
        len(shown) == EPOCHS * epoch
        and [len({e for e, _ in part}) for part in epochs] == [epoch] * EPOCHS
    )
    assert [{view for _, view in part} for part in epochs] == [{0}, {1}, {0}]
    assert [e for e, _ in epochs[0]] != [e for e, _ in epochs[2]]
    assert shown == addresses(streamed(images))


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_every_batch(images: Images, processes: int) -> None:
    parts = [
        list(streamed(images, shard=ShardOptions(number, processes))) for number in range(processes)
    ]
    for whole, *shares in zip(streamed(images), *parts, strict=True):
        assert all(len(share["label"]) == SIZE // processes for share in shares)
        # Disjoint, and together the batch: position by position, process after process.
        together = {
            name: np.stack([share[name] for share in shares], 1).reshape(array.shape)
            for name, array in whole.items()
        }
        assert equal(whole, together)


def test_a_view_is_the_same_in_every_batch_thread_and_process(images: Images) -> None:
    alone = {
        pair: view_of(images, *pair, CROP, seed=5) for pair in set(addresses(streamed(images)))
    }
    for batches in (
        streamed(images, size=3),
        streamed(images, reading=Reading(threads=3)),
        streamed(images, reading=Reading(threads=1, workers=2)),
    ):
        for batch in itertools.islice(batches, 4):
            pairs = zip(batch["example"].tolist(), batch["view"].tolist(), strict=True)
            for image, pair in zip(batch["image"], pairs, strict=True):
                np.testing.assert_array_equal(image, view_of(images, *pair, CROP, seed=5))
        batches.close()
    example = next(iter(alone))[0]
    assert (alone[example, 0] != alone[example, 1]).any()
    assert (view_of(images, example, 0, CROP, seed=6) != alone[example, 0]).any()


@pytest.mark.parametrize("after", [1, 4, 7])
@pytest.mark.parametrize("reading", [Reading(1), Reading(3)])
def test_a_state_goes_on_in_the_middle_of_an_epoch(
    images: Images, after: int, reading: Reading
) -> None:
    whole = list(streamed(images))
    batches = streamed(images, reading=reading)
    for _ in range(after):
        next(batches)
    state = batches.get_state()
    assert json.loads(state)["given"] == after
    resumed = streamed(images)
    resumed.set_state(state)
    for rest in (batches, resumed):
        assert all(equal(a, b) for a, b in zip(whole[after:], rest, strict=True))
    resumed.set_state(state)
    assert equal(next(resumed), whole[after])
    with pytest.raises(ValueError, match="images, order and crops"):
        streamed(images, size=4).set_state(state)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_evaluation_masks_what_fills_the_last_batch(images: Images, processes: int) -> None:
    parts = [
        list(evaluation(images, SIZE, 16, shard=ShardOptions(number, processes)))
        for number in range(processes)
    ]
    assert {len(part) for part in parts} == {-(-len(images) // SIZE)}
    batches = list(itertools.chain(*parts))
    assert {len(batch["mask"]) for batch in batches} == {SIZE // processes}
    real = np.concatenate([batch["example"][batch["mask"]] for batch in batches])
    assert sorted(real.tolist()) == list(range(len(images)))


def test_what_does_not_fit_is_refused(images: Images, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size=8 does not divide by 3"):
        streamed(images, shard=ShardOptions(0, 3))
    with pytest.raises(ValueError, match="fewer than batch_size=99"):
        streamed(images, size=99)
    with pytest.raises(ValueError, match="JPEG or PNG"):
        picture(b"no image", 4, lambda w, h: centre(w, h, 1.0))
    with pytest.raises(ValueError, match="one folder for each class"):
        splits_of("folder", tmp_path)
    with pytest.raises(FileNotFoundError, match="imagenet2012"):
        splits_of("imagenet2012", tmp_path)


def test_crops_lie_inside_and_have_the_area_and_aspect_that_was_asked() -> None:
    boxes = [random_box(0, e, v, 500, 375, Crop()) for e in range(100) for v in range(4)]
    areas = [box.width * box.height / (500 * 375) for box in boxes]
    aspects = [box.width / box.height for box in boxes]
    assert all(0 <= b.left <= 500 - b.width and 0 <= b.top <= 375 - b.height for b in boxes)
    assert 0.075 < min(areas) < 0.12 and 0.9 < max(areas) <= 1.0
    assert ASPECTS[0] * 0.98 < min(aspects) < 0.8 and 1.25 < max(aspects) < ASPECTS[1] * 1.02
    assert 0.4 < np.mean([box.is_mirrored for box in boxes]) < 0.6
    assert not any(random_box(0, e, 0, 9, 9, Crop(flip=False)).is_mirrored for e in range(20))


def test_stored_knowledge_of_a_view_is_of_the_image_that_training_shows(
    images: Images, tmp_path: Path
) -> None:
    """The teacher says the pixels' sum of every view; training's pixels have the same."""
    drawn = DrawnViews(images, CROP, seed=5, threads=2)
    teacher = lambda _, pixels: {"sum": pixels.astype("float32").mean((1, 2))}  # noqa: E731
    source = source_of(drawn, views=2)
    float32 = store.Storage(dtype="float32")
    store.write(tmp_path, teacher, {}, source, storage=float32, batch_size=8)
    opened = store.open_store(tmp_path, source=source)
    assert opened.manifest.views["on_host"]["seed"] == 5
    for batch in streamed(images):
        known = opened.read(batch["example"], batch["view"])["sum"]
        np.testing.assert_allclose(batch["image"].astype("float32").mean((1, 2)), known, rtol=1e-5)
    other = source_of(DrawnViews(images, CROP, seed=6), views=2)
    with pytest.raises(ValueError, match="views"):
        store.open_store(tmp_path, source=other)


def test_a_half_is_decoded_of_a_large_jpeg(tmp_path: Path) -> None:
    folder = write_jpegs(tmp_path, classes=2, each=1, sizes=(640, 480))
    train, test = splits_of("folder", folder)
    assert len(train) == len(test) == 1 and train.num_classes == 2
    small = picture(train[0].data, 32, lambda w, h: centre(w, h, 1.0))
    assert small.shape == (32, 32, 3) and small.dtype == np.uint8


@pytest.mark.skipif("JAXCOMPRESS_SHARED" not in os.environ, reason="JAXCOMPRESS_SHARED is not set")
def test_what_tfds_prepared_is_read_as_it_is() -> None:
    shared = Path(os.environ["JAXCOMPRESS_SHARED"])
    train, test = splits_of("cifar10", shared / "tensorflow_datasets")
    assert (len(train), len(test), train.num_classes) == (50_000, 10_000, 10)
    assert train.identity != test.identity
    one = view_of(train, 3, 0, Crop(32), seed=0)
    batches = training(train, Shuffled(50_000, 64, 1, seed=0), Crop(32))
    batch = next(batches)
    batches.close()
    assert batch["image"].shape == (64, *one.shape) and 0 <= batch["label"].min() <= 9
    assert jax.process_count() == 1
