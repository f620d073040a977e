"""Data sets that fit into memory, as arrays; the loop keeps them on the device.

`load` reads scikit-learn's digits or any image-classification set that TFDS prepared as ArrayRecord
(no TensorFlow is imported); `preprocess` normalises inside jit; `epoch_indices` shuffles there.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.decoding import Arrays, decode, digits, prepared_digest, prepared_folder
from experiments.common.environment import cache_folder
from experiments.common.stage_files import read_arrays
from jaxcompress.annotations import Array, Batch
from jaxcompress.files import atomic_file
from jaxcompress.knowledge.drawing import Views
from jaxcompress.knowledge.fingerprints import fingerprint

__all__ = [
    "DIGITS_VIEWS",
    "IMAGENET",
    "Dataset",
    "Normalize",
    "epoch_indices",
    "first",
    "identity",
    "image_shape",
    "load",
    "preprocess",
]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation that published weights expect, those for CIFAR-10 too."""
DIGITS_VIEWS = Views(pad=1, flip=False)
"""The augmentation of 8x8 digits, which mirrored would be others."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """An image-classification data set in memory.

    Attributes:
        name: e.g. `cifar10`.
        train_images: `uint8[n, height, width, channels]`.
        train_labels: `int32[n]`.
        test_images: `uint8[m, height, width, channels]`.
        test_labels: `int32[m]`.
        num_classes: labels are 0 to this, exclusive.
        mean: per channel, of pixels scaled to 0..1; `load` takes it from the training images.
        std: likewise. Weights trained elsewhere may want others: `dataclasses.replace`.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Normalize:
    """Turn pixels into a network's input: ``(images / 255 - mean) / std``, in float32.

    Two of the same numbers are equal, so that jit does not compile again.

    Example:
        >>> Normalize((0.5,), (0.25,))(np.full((1, 1, 1, 1), 255, np.uint8)).tolist()
        [[[[2.0]]]]
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Batch) -> jax.Array:
        """Normalize `uint8[batch, height, width, channels]`."""
        scaled = jnp.asarray(images).astype(jnp.float32) / 255
        return (scaled - jnp.array(self.mean)) / jnp.array(self.std)


def preprocess(dataset: Dataset) -> Normalize:
    """Return the function that normalises this data set's images.

    Example:
        >>> digits = load("digits")
        >>> preprocess(digits)(digits.test_images[:2]).dtype
        dtype('float32')
    """
    return Normalize(dataset.mean, dataset.std)


def image_shape(dataset: Dataset) -> jax.ShapeDtypeStruct:
    """Return one normalised image, abstractly: `float32[1, height, width, channels]`.

    Example:
        >>> image_shape(load("digits"))
        ShapeDtypeStruct(shape=(1, 8, 8, 1), dtype=float32)
    """
    return jax.ShapeDtypeStruct((1, *dataset.test_images.shape[1:]), jnp.float32)


def first(dataset: Dataset, train_images: int = 0, test_images: int = 0) -> Dataset:
    """Return the data set with its first images only; 0 for all. Mean and deviation stay.

    Example:
        >>> first(load("digits"), train_images=64).train_labels.shape
        (64,)
    """
    train, test = train_images or None, test_images or None
    return dataclasses.replace(
        dataset,
        train_images=dataset.train_images[:train],
        train_labels=dataset.train_labels[:train],
        test_images=dataset.test_images[:test],
        test_labels=dataset.test_labels[:test],
    )


def identity(dataset: Dataset) -> str:
    """Return a fingerprint of everything a data set holds, but its name.

    Example:
        >>> digits = load("digits")
        >>> identity(digits) == identity(dataclasses.replace(digits, std=(0.5,)))
        False
    """
    fields = {field.name: getattr(dataset, field.name) for field in dataclasses.fields(dataset)}
    del fields["name"]
    return fingerprint({name: np.asarray(value) for name, value in fields.items()})


def epoch_indices(key: jax.Array, epoch: jax.Array | int, size: int, batch_size: int) -> jax.Array:
    """Shuffle the examples for one epoch: a pure function of (key, epoch), inside jit.

    Returns:
        `int32[steps, batch_size]` with steps = size // batch_size; each example at most once, the
        remainder left out.

    Raises:
        ValueError: if there is not one full batch.

    Example:
        >>> epoch_indices(jax.random.key(0), 3, size=10, batch_size=4).shape
        (2, 4)
    """
    steps = size // batch_size
    if steps == 0:
        raise ValueError(
            f"an epoch has at least one full batch, but {size} examples are fewer than "
            f"batch_size={batch_size}; lower the batch size"
        )
    order = jax.random.permutation(jax.random.fold_in(key, epoch), size)
    return order[: steps * batch_size].reshape(steps, batch_size)


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Read a data set: `digits` (1,797 images of 8x8, always there) or one that TFDS prepared.

    Decoded TFDS images are cached in the user's cache folder.

    Args:
        name: `digits`, or a name in TFDS with `image` and `label`, e.g. `cifar10`.
        data_dir: TFDS's folder; default `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`.

    Raises:
        FileNotFoundError: if TFDS has not prepared the data set there.

    Example:
        >>> load("digits").train_images.shape
        (1437, 8, 8, 1)
    """
    if name == "digits":
        return _dataset(name, digits(), num_classes=10)
    folder = prepared_folder(name, data_dir)
    cache = cache_folder() / "data" / f"{name}-{folder.name}-{prepared_digest(folder)}.npz"
    if cache.exists():
        known = read_arrays(cache)
        arrays = Arrays(*(known[key] for key in Arrays._fields))
        return _dataset(name, arrays, int(known["num_classes"]))
    decoded, num_classes = decode(folder)
    _write_cache(cache, {**decoded._asdict(), "num_classes": num_classes})
    return _dataset(name, decoded, num_classes)


def _dataset(name: str, arrays: Arrays, num_classes: int) -> Dataset:
    mean, std = _pixel_statistics(arrays.train_images)
    return Dataset(name, *arrays, num_classes=num_classes, mean=mean, std=std)


def _pixel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, from exact counts of each pixel value."""
    values = np.arange(256) / 255
    channels = range(images.shape[-1])
    weights = [np.bincount(images[..., c].ravel(), minlength=256) for c in channels]
    means = [float(np.average(values, weights=w)) for w in weights]
    pairs = zip(weights, means, strict=True)
    stds = [float(np.sqrt(np.average((values - m) ** 2, weights=w))) for w, m in pairs]
    return tuple(means), tuple(stds)


def _write_cache(file: Path, arrays: dict[str, Array]) -> None:
    """Write whole or not at all, so that an interrupted run leaves no half cache."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as stream:
        np.savez(stream, **arrays)
