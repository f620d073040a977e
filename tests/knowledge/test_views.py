"""A view is a function of (key, example, index) alone, bitwise."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress import parallel
from jaxcompress.knowledge import Source, Views, view, views

KEY = jax.random.key(3)
IMAGES = np.random.default_rng(0).integers(1, 256, (24, 8, 8, 3), dtype=np.uint8)
EXAMPLES = np.arange(24) * 1000 + 17
INDICES = np.arange(24) % 5
PLAIN = Views(pad=2)
COLOUR = Views(pad=1, brightness=0.2, contrast=0.3, saturation=0.4)


@pytest.fixture(scope="module", params=[PLAIN, COLOUR], ids=["plain", "colour"])
def settings(request: pytest.FixtureRequest) -> Views:
    return request.param


@pytest.fixture(scope="module")
def reference(settings: Views) -> np.ndarray:
    """One view at a time."""
    pairs = zip(EXAMPLES, INDICES, IMAGES, strict=True)
    one = jax.jit(functools.partial(view, settings=settings))
    return np.stack([one(KEY, e, i, image) for e, i, image in pairs])


@pytest.mark.parametrize("batch", [1, 6, 24])
def test_batch_size_and_order_do_not_matter(
    reference: np.ndarray, settings: Views, batch: int
) -> None:
    draw = jax.jit(functools.partial(views, settings=settings))
    order = np.random.default_rng(batch).permutation(24)
    for rows in order.reshape(-1, batch):
        drawn = draw(KEY, EXAMPLES[rows], INDICES[rows], IMAGES[rows])
        np.testing.assert_array_equal(drawn, reference[rows])


@pytest.mark.parametrize("devices", [2, 8])
def test_devices_do_not_matter(reference: np.ndarray, settings: Views, devices: int) -> None:
    mesh = parallel.mesh(jax.devices()[:devices])
    examples, indices, images = parallel.shard_batch((EXAMPLES, INDICES, IMAGES), mesh)
    drawn = jax.jit(functools.partial(views, settings=settings))(KEY, examples, indices, images)
    np.testing.assert_array_equal(drawn, reference)


def test_jit_does_not_matter(settings: Views) -> None:
    one = functools.partial(view, KEY, 5, 1, settings=settings)
    np.testing.assert_array_equal(one(IMAGES[0]), jax.jit(one)(IMAGES[0]))


def test_float_images_see_the_same_view() -> None:
    images = IMAGES.astype(np.float32) / 255
    drawn = views(KEY, EXAMPLES, INDICES, images, settings=PLAIN)
    pixels = views(KEY, EXAMPLES, INDICES, IMAGES, settings=PLAIN)
    np.testing.assert_array_equal(drawn, np.asarray(pixels).astype(np.float32) / 255)


def test_colour_of_float_images_is_refused() -> None:
    with pytest.raises(TypeError, match="uint8"):
        view(KEY, 0, 0, IMAGES[0] / 255, settings=COLOUR)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="pad must be .*; contrast must be .* 0 to 1"):
        Views(contrast=1.5, pad=-1)


def test_colour_follows_its_definition() -> None:
    """Within rounding, each channel is mean + factor * (pixel - mean), one factor for all."""
    image = IMAGES[0] // 2 + 60
    drawn = view(KEY, 1, 1, image, settings=Views(pad=0, flip=False, contrast=0.3))
    mean = image.mean((0, 1))
    ratio = (np.asarray(drawn) - mean).std() / (image - mean).std()
    assert 0.7 <= ratio <= 1.3 and abs(ratio - 1) > 0.01
    np.testing.assert_allclose(drawn, mean + ratio * (image - mean), atol=2)
    shifted = view(KEY, 1, 1, image, settings=Views(pad=0, flip=False, brightness=0.2))
    assert len(np.unique(np.asarray(shifted, int) - image)) == 1
    grey = np.repeat(image[..., :1], 3, -1)
    same = view(KEY, 1, 1, grey, settings=Views(pad=0, flip=False, saturation=0.9))
    np.testing.assert_array_equal(same, grey)


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


def test_views_drawn_on_the_host_are_read_by_number_and_described() -> None:
    class Drawn:
        def __getitem__(self, address: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
            return np.stack(address, axis=1)

    source = Source(Drawn(), 5, "drawn", views=3, on_host={"crop": "whole"})
    assert source.inputs([4, 1], [0, 2]).data.tolist() == [[4, 0], [1, 2]]
    assert source.describe()["on_host"] == {"crop": "whole"} and source.describe()["count"] == 3
    assert "on_host" not in Source(np.ones(5), 5, "plain").describe()
    with pytest.raises(ValueError, match="on the host or on the device"):
        Source(Drawn(), 5, "twice", jax.random.key(0), settings=Views(), on_host={})
