"""What is read: encoded images with their labels, by number, from folders or as TFDS prepared them.

Nothing is decoded here, and nothing is held but names: a process that reads opens the files anew.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from experiments.common.decoding import prepared_digest, prepared_folder
from experiments.common.image_folders import classes_of, files_of
from jaxcompress.knowledge.fingerprints import fingerprint_json

__all__ = ["Chosen", "Encoded", "FolderImages", "Images", "PreparedImages", "splits_of"]


class Encoded(NamedTuple):
    """One image.

    Attributes:
        data: of its file.
        label: number of its class.
    """

    data: bytes
    label: int


class Images(Protocol):
    """Encoded images by number."""

    @property
    def num_classes(self) -> int:
        """Labels are 0 to this, exclusive."""

    @property
    def identity(self) -> str:
        """Tells other images, or the same in another order, apart."""

    def __len__(self) -> int: ...

    def __getitem__(self, example: int) -> Encoded: ...


@dataclasses.dataclass(frozen=True)
class FolderImages:
    """JPEG and PNG files, in folders by class.

    Attributes:
        root: from which files are named.
        files: their names.
        labels: one for each.
        num_classes: how many classes there are.
    """

    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...]
    num_classes: int

    @classmethod
    def of(cls, root: Path, classes: Sequence[str], part: str = "") -> FolderImages:
        """List the files of all classes in a folder, or in a part of it such as `train`.

        Raises:
            ValueError: if there are none.
        """
        pairs, _ = files_of(root / part, classes)
        if not pairs:
            raise ValueError(
                f"data: a folder of images holds JPEG or PNG files, but {root / part} holds none "
                f"in folders of its {len(classes)} classes; put them there"
            )
        names = tuple(file.relative_to(root).as_posix() for _, file in pairs)
        return cls(root, names, tuple(label for label, _ in pairs), len(classes))

    @functools.cached_property
    def identity(self) -> str:
        """The names, sizes and labels of the files."""
        sizes = [(self.root / file).stat().st_size for file in self.files]
        return fingerprint_json([list(self.files), sizes, list(self.labels)])[:12]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, example: int) -> Encoded:
        return Encoded((self.root / self.files[example]).read_bytes(), self.labels[example])


@dataclasses.dataclass(frozen=True)
class PreparedImages:
    """A split of a data set that TFDS prepared as ArrayRecord; no TensorFlow is imported.

    Attributes:
        folder: `<data_dir>/<name>/<version>`.
        split: its name there.
    """

    folder: Path
    split: str

    @functools.cached_property
    def _builder(self) -> Any:
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(self.folder)

    @functools.cached_property
    def _source(self) -> Any:
        import tensorflow_datasets as tfds

        undecoded = {"image": tfds.decode.SkipDecoding()}
        return self._builder.as_data_source(split=self.split, decoders=undecoded)

    @property
    def num_classes(self) -> int:
        """As the data set says."""
        return int(self._builder.info.features["label"].num_classes)

    @functools.cached_property
    def identity(self) -> str:
        """The prepared files and the split."""
        return f"{prepared_digest(self.folder)}-{self.split}"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is open: other processes open it themselves."""
        return {"folder": self.folder, "split": self.split}

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, example: int) -> Encoded:
        record = self._source[example]
        return Encoded(bytes(record["image"]), int(record["label"]))


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Some of the images, numbered anew.

    Attributes:
        images: all of them.
        numbers: those that are chosen.
    """

    images: Images
    numbers: tuple[int, ...]

    @property
    def num_classes(self) -> int:
        """As of all images."""
        return self.images.num_classes

    @functools.cached_property
    def identity(self) -> str:
        """Of all images, and of the choice."""
        return fingerprint_json([self.images.identity, list(self.numbers)])[:12]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, example: int) -> Encoded:
        return self.images[self.numbers[example]]


def splits_of(
    dataset: str, data_dir: Path | None, test_share: float = 0.5, seed: int = 0
) -> tuple[Images, Images]:
    """Return the images to train and to test on.

    Args:
        dataset: the name of one that TFDS has prepared, or `folder`.
        data_dir: TFDS's folder, or that of the images: by class, inside `train` and `test` (or
            `val`), or all together, which are then split at random.
        test_share: share of the images that is tested on, where they lie together.
        seed: of that split.

    Raises:
        FileNotFoundError: if TFDS has not prepared the data set.
        ValueError: if there are no images.
    """
    if dataset != "folder":
        folder = prepared_folder(dataset, data_dir)
        names = {split["name"] for split in _splits(folder)}
        # ImageNet's test images have no labels.
        test = "validation" if "validation" in names else "test"
        return PreparedImages(folder, "train"), PreparedImages(folder, test)
    if data_dir is None:
        raise ValueError("dataset=folder reads the images of a folder; pass it as data_dir")
    parts = [name for name in ("train", "test", "val") if (data_dir / name).is_dir()]
    if "train" in parts and len(parts) > 1:
        classes = classes_of(data_dir, data_dir / "train")
        train, held = (FolderImages.of(data_dir, classes, part) for part in parts[:2])
        return train, held
    images = FolderImages.of(data_dir, classes_of(data_dir, data_dir))
    return _halves(images, test_share, seed)


def _splits(folder: Path) -> list[dict[str, Any]]:
    splits: list[dict[str, Any]] = json.loads((folder / "dataset_info.json").read_text())["splits"]
    return splits


def _halves(images: Images, test_share: float, seed: int) -> tuple[Chosen, Chosen]:
    order = np.random.default_rng(seed).permutation(len(images)).tolist()
    count = max(1, min(len(order) - 1, round(test_share * len(order))))
    return Chosen(images, tuple(sorted(order[count:]))), Chosen(
        images, tuple(sorted(order[:count]))
    )
