"""Data of one's own as arrays in memory, wherever they come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import data as known
from experiments.compress.files import arrays_of
from experiments.compress.generated import generated
from experiments.compress.images import folder_of_images
from experiments.compress.nearest import nearest
from experiments.compress.settings import Config
from experiments.compress.splits import Splits, checked
from jaxcompress.annotations import Array, Batch
from jaxcompress.knowledge import fingerprint

__all__ = ["Data", "Pixels", "batches_of", "first_rows", "load"]


@dataclasses.dataclass(frozen=True)
class Pixels:
    """How what is stored becomes what the network is given.

    Attributes:
        mean: of each channel of pixels scaled to 0..1, or of all.
        std: likewise.
        is_first: whether the network wants channels before height and width.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    is_first: bool = False

    def __call__(self, batch: Batch) -> Array:
        """Return a batch's inputs: pixels, `uint8`, scaled, other numbers as they are."""
        inputs = jnp.asarray(batch["image"])
        if inputs.dtype == jnp.uint8:
            scaled = inputs.astype(jnp.float32) / 255
            inputs = (scaled - jnp.array(self.mean)) / jnp.array(self.std)
        return jnp.moveaxis(inputs, -1, 1) if self.is_first and inputs.ndim == 4 else inputs


class Data(NamedTuple):
    """Examples in memory, `{"image", "label"}`, the latter where there are labels to use.

    Attributes:
        name: what they are.
        train: `[examples, ...]`.
        test: `[examples, ...]`, of which nothing is decided.
        inputs: what of a batch the network is given.
        notes: what was skipped or changed while they were read.
    """

    name: str
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    inputs: Pixels
    notes: tuple[str, ...]

    @property
    def has_labels(self) -> bool:
        """Whether there are labels to judge by."""
        return "label" in self.test

    @property
    def num_classes(self) -> int:
        """How many classes the labels name."""
        there = [part["label"] for part in (self.train, self.test) if "label" in part]
        return int(max(labels.max() for labels in there)) + 1

    def one(self, pixels: Pixels | None = None) -> jax.ShapeDtypeStruct:
        """Return one example of the inputs, abstractly."""
        first = first_rows(self.train, 1)
        return jax.eval_shape(lambda batch: (pixels or self.inputs)(batch), first)

    def identity(self) -> dict[str, str]:
        """Tell these examples from others, and from the same ones given otherwise."""
        arrays = {"train": self.train, "test": self.test}
        return {"arrays": fingerprint(arrays), "inputs": str(self.inputs)}


def load(config: Config, size: int | None) -> Data:
    """Read the data, split off what is tested on where it is not apart, and check both.

    Args:
        config: says what, and how many.
        size: height and width of images that may be resized; None for what most of them have.

    Raises:
        ValueError: if there is nothing of that name, or what there is cannot be meant.
    """
    splits = checked(_splits(config, size), config.data, config.test_share, config.seed)
    train = _some(splits.train, config.train_images, config.seed)
    test = _some(splits.test, config.test_images, config.seed)
    if config.labels == "test":
        train = {"image": train["image"]}
    return Data(config.data, train, test, Pixels(), splits.notes)


def _splits(config: Config, size: int | None) -> Splits:
    name = config.data
    if ":" in name and not Path(name).exists():
        return generated(name)
    path = Path(name).expanduser()
    if path.suffix == ".npz":
        return arrays_of(path)
    if path.is_dir():
        return folder_of_images(path, config.image_size or size)
    try:
        dataset = known.load(name, config.data_dir)
    except FileNotFoundError as error:
        there = [str(other) for other in sorted(Path.cwd().iterdir())]
        names = ["digits", *(Path(other).name for other in there)]
        raise ValueError(
            f"data: {name!r} is neither digits, an .npz, a folder of images by class, "
            f"module:function nor a data set of TFDS ({error}); {nearest(name, names)}"
        ) from error
    parts = [
        {"image": images, "label": labels}
        for images, labels in (
            (dataset.train_images, dataset.train_labels),
            (dataset.test_images, dataset.test_labels),
        )
    ]
    return Splits(parts[0], parts[1], ())


def _some(arrays: dict[str, np.ndarray], count: int, seed: int) -> dict[str, np.ndarray]:
    """Return as many examples, at random: those of a folder lie class by class. 0 for all."""
    total = len(arrays["image"])
    if not count or count >= total:
        return arrays
    chosen = np.sort(np.random.default_rng(seed).permutation(total)[:count])
    return {name: array[chosen] for name, array in arrays.items()}


def first_rows(arrays: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Return the first rows of all arrays.

    Example:
        >>> first_rows({"image": np.zeros((5, 2))}, 3)["image"].shape
        (3, 2)
    """
    return {name: array[:count] for name, array in arrays.items()}


def batches_of(arrays: Mapping[str, np.ndarray], size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield all rows in batches, the last one smaller.

    Example:
        >>> [len(batch["image"]) for batch in batches_of({"image": np.zeros(5)}, 3)]
        [3, 2]
    """
    count = len(arrays["image"])
    for start in range(0, count, size):
        yield {name: array[start : start + size] for name, array in arrays.items()}
