"""A mixed view is a function of (key, example, index) and the data set alone, bitwise."""

from __future__ import annotations

import functools
from typing import Literal

import jax
import numpy as np
import pytest

from jaxcompress import parallel
from jaxcompress.knowledge import Mix, Mixed, Views, mixed_views, partners

KEY = jax.random.key(1)
IMAGES = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), dtype=np.uint8)
INDICES = np.arange(32) % 3
SETTINGS = Views(pad=1)
KINDS = ("mixup", "cutmix")


def draw(mix: Mix, rows: np.ndarray, devices: int = 1) -> Mixed:
    others = np.asarray(partners(KEY, rows, INDICES[rows], mix=mix))
    batch = (rows, INDICES[rows], IMAGES[rows], IMAGES[others])
    batch = parallel.shard_batch(batch, parallel.mesh(jax.devices()[:devices]))
    mixed = jax.jit(functools.partial(mixed_views, settings=SETTINGS, mix=mix))
    return Mixed(*jax.tree.map(np.asarray, tuple(mixed(KEY, *batch))))


@pytest.mark.parametrize("kind", KINDS)
def test_batches_and_devices_do_not_matter(kind: Literal["mixup", "cutmix"]) -> None:
    mix = Mix(kind, examples=32)
    reference = draw(mix, np.arange(32))
    order = np.random.default_rng(0).permutation(32)
    for batch, devices in ((32, 8), (8, 2)):
        parts = [draw(mix, rows, devices) for rows in order.reshape(-1, batch)]
        for index, desired in enumerate(reference):
            joined = np.concatenate([part[index] for part in parts])
            np.testing.assert_array_equal(joined, desired[order])


@pytest.mark.parametrize("kind", KINDS)
def test_the_weight_is_the_share_of_the_example_itself(kind: Literal["mixup", "cutmix"]) -> None:
    """Of white images mixed with black ones as much white stays as the weight says."""
    mix = Mix(kind, examples=32)
    white, black = np.full_like(IMAGES, 255), np.zeros_like(IMAGES)
    plain = Views(pad=0, flip=False)
    mixed = mixed_views(KEY, np.arange(32), INDICES, white, black, settings=plain, mix=mix)
    np.testing.assert_allclose(
        np.asarray(mixed.images).mean((1, 2, 3)) / 255, mixed.weights, atol=0.003
    )
    weights = np.asarray(mixed.weights)
    assert weights.min() < 0.3 and weights.max() > 0.7


def test_shares_follow_the_beta_distribution() -> None:
    count = 2000
    images = np.zeros((count, 1, 1, 1), np.uint8)
    mix = Mix("mixup", examples=count, alpha=0.4)
    arguments = (KEY, np.arange(count), 0, images, images)
    weights = np.asarray(mixed_views(*arguments, settings=Views(pad=0), mix=mix).weights)
    assert abs(weights.mean() - 0.5) < 0.03
    assert abs(weights.var() - 1 / (4 * (2 * 0.4 + 1))) < 0.01


def test_partners_are_spread_over_the_data_set() -> None:
    chosen = np.asarray(partners(KEY, np.arange(2000), 0, mix=Mix("mixup", examples=4)))
    assert np.bincount(chosen, minlength=4).min() > 400


def test_wrong_settings_and_images_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha must be .* above 0, but is 0"):
        Mix("mixup", examples=3, alpha=0)
    with pytest.raises(ValueError, match="alpha must be a finite number"):
        Mix("mixup", examples=3, alpha=float("nan"))
    with pytest.raises(ValueError, match="kind must be one of .'mixup', 'cutmix'., but is 'cut'"):
        Mix("cut", examples=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="uint8"):
        mix = Mix("mixup", examples=2)
        mixed_views(KEY, np.array([0]), 0, IMAGES[:1] / 255, IMAGES[:1], settings=SETTINGS, mix=mix)
