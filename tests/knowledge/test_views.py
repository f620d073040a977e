"""A view is a function of (key, example, index) alone, bitwise."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress import parallel
from jaxcompress.knowledge import Views, view, views

KEY = jax.random.key(3)
IMAGES = np.random.default_rng(0).integers(1, 256, (24, 8, 8, 3), dtype=np.uint8)
EXAMPLES = np.arange(24) * 1000 + 17
INDICES = np.arange(24) % 5
SETTINGS = Views(pad=2)


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    """One view at a time, without jit."""
    pairs = zip(EXAMPLES, INDICES, IMAGES, strict=True)
    return np.stack([view(KEY, e, i, image, settings=SETTINGS) for e, i, image in pairs])


@pytest.mark.parametrize("batch", [1, 6, 24])
def test_batch_size_and_order_do_not_matter(reference: np.ndarray, batch: int) -> None:
    draw = jax.jit(functools.partial(views, settings=SETTINGS))
    order = np.random.default_rng(batch).permutation(24)
    for rows in order.reshape(-1, batch):
        drawn = draw(KEY, EXAMPLES[rows], INDICES[rows], IMAGES[rows])
        np.testing.assert_array_equal(drawn, reference[rows])


def test_devices_do_not_matter(reference: np.ndarray) -> None:
    examples, indices, images = parallel.shard_batch((EXAMPLES, INDICES, IMAGES), parallel.mesh())
    drawn = jax.jit(functools.partial(views, settings=SETTINGS))(KEY, examples, indices, images)
    np.testing.assert_array_equal(drawn, reference)


def test_float_images_see_the_same_view(reference: np.ndarray) -> None:
    images = IMAGES.astype(np.float32) / 255
    drawn = views(KEY, EXAMPLES, INDICES, images, settings=SETTINGS)
    np.testing.assert_array_equal(drawn, reference.astype(np.float32) / 255)


def test_views_differ_by_key_example_and_index() -> None:
    image = jnp.asarray(IMAGES[0])
    draw = functools.partial(view, image=image, settings=Views())
    pictures = [draw(jax.random.key(k), e, i) for k in (0, 1) for e in (0, 1) for i in (0, 1)]
    assert len({np.asarray(picture).tobytes() for picture in pictures}) == len(pictures)


def test_every_view_is_a_crop_of_the_image_or_its_mirror() -> None:
    image = IMAGES[0]
    many = views(
        KEY, np.zeros(400, int), np.arange(400), np.stack([image] * 400), settings=Views(pad=1)
    )
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    crops = [padded[t : t + 8, x : x + 8] for t in range(3) for x in range(3)]
    allowed = {crop.tobytes() for crop in crops} | {crop[:, ::-1].tobytes() for crop in crops}
    drawn = [np.asarray(one).tobytes() for one in many]
    assert set(drawn) == allowed
    assert max(drawn.count(one) for one in allowed) < 45  # 22 expected of each


def test_settings_are_independent_of_each_other() -> None:
    both = view(KEY, 1, 2, IMAGES[0], settings=Views(pad=2, flip=True))
    cropped = np.asarray(view(KEY, 1, 2, IMAGES[0], settings=Views(pad=2, flip=False)))
    assert np.array_equal(both, cropped) or np.array_equal(both, cropped[:, ::-1])
    same = view(KEY, 1, 2, IMAGES[0], settings=Views(pad=0, flip=False))
    np.testing.assert_array_equal(same, IMAGES[0])
