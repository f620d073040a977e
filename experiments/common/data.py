"""Data sets that fit into memory, as arrays; the loop keeps them on the device.

`load` reads scikit-learn's digits or any image-classification set that TFDS prepared as ArrayRecord
(no TensorFlow is imported); `preprocess` normalises inside jit; `epoch_indices` shuffles there.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.environment import cache_folder
from experiments.stage_files import read_arrays
from jaxcompress.files import atomic_file, file_digest
from jaxcompress.knowledge.fingerprints import fingerprint, fingerprint_json

__all__ = ["IMAGENET", "Dataset", "Normalize", "epoch_indices", "identity", "load", "preprocess"]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation that published weights expect, those for CIFAR-10 too."""


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

    def __call__(self, images: Any) -> jax.Array:
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


def identity(dataset: Dataset) -> str:
    """Return a fingerprint of everything a data set holds, but its name.

    Example:
        >>> digits = load("digits")
        >>> identity(digits) == identity(dataclasses.replace(digits, std=(0.5,)))
        False
    """
    own = {field.name: getattr(dataset, field.name) for field in dataclasses.fields(dataset)}
    del own["name"]
    return fingerprint({name: np.asarray(value) for name, value in own.items()})


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
        return _dataset(name, _digits(), num_classes=10)
    folder = _prepared_folder(name, data_dir)
    cache = cache_folder() / "data" / f"{name}-{folder.name}-{_prepared_digest(folder)}.npz"
    if cache.exists():
        found = read_arrays(cache)
        return _dataset(
            name, Arrays(*(found[key] for key in Arrays._fields)), int(found["num_classes"])
        )
    decoded, num_classes = _decode(folder)
    _write_cache(cache, {**decoded._asdict(), "num_classes": num_classes})
    return _dataset(name, decoded, num_classes)


class Arrays(NamedTuple):
    """The arrays of both splits, as in `Dataset`."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


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


def _digits() -> Arrays:
    """Split scikit-learn's digits 80 / 20, the same each time, classes in proportion."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.round(digits.images[..., None] * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int32)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels
    )
    return Arrays(images[train], labels[train], images[test], labels[test])


def _prepared_folder(name: str, data_dir: str | os.PathLike[str] | None) -> Path:
    """Find the newest prepared version of a TFDS data set."""
    default = os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets"
    root = Path(data_dir or default).expanduser()
    found = sorted(root.glob(f"{name}/*/dataset_info.json"), key=lambda p: _version(p.parent.name))
    if not found:
        raise FileNotFoundError(
            f"data set {name!r} must lie prepared in the data folder, but {root} has no "
            f"{name}/<version>/dataset_info.json; prepare it with "
            f"`tfds build {name} --file_format=array_record --data_dir={root}`, or pass the folder "
            "that has it"
        )
    return found[-1].parent


def _prepared_digest(folder: Path) -> str:
    """Tell prepared folders apart, which may hold other data under the same name and version."""
    sizes = {file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()}
    return fingerprint_json({"sizes": sizes, "info": file_digest(folder / "dataset_info.json")})[
        :12
    ]


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in name.split("."))


def _decode(folder: Path) -> tuple[Arrays, int]:
    """Decode both splits of a prepared data set; return them and the number of classes."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    test = "test" if "test" in builder.info.splits else "validation"
    arrays: list[np.ndarray] = []
    for split in ("train", test):
        examples = list(builder.as_data_source(split=split))
        arrays.append(np.stack([example["image"] for example in examples]))
        arrays.append(np.array([example["label"] for example in examples], np.int32))
    return Arrays(*arrays), builder.info.features["label"].num_classes


def _write_cache(file: Path, arrays: dict[str, Any]) -> None:
    """Write whole or not at all, so that an interrupted run leaves no half cache."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as stream:
        np.savez(stream, **arrays)
