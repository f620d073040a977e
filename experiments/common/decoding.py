"""Images and labels as scikit-learn or TFDS have them, as arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxcompress.files import file_digest
from jaxcompress.knowledge.fingerprints import fingerprint_json

__all__ = ["Arrays", "decode", "digits", "prepared_digest", "prepared_folder"]


class Arrays(NamedTuple):
    """The arrays of both splits, as in `Dataset`."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def digits() -> Arrays:
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


def prepared_folder(name: str, data_dir: str | os.PathLike[str] | None) -> Path:
    """Find the newest prepared version of a TFDS data set."""
    default = os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets"
    root = Path(data_dir or default).expanduser()
    versions = sorted(
        root.glob(f"{name}/*/dataset_info.json"), key=lambda p: _version(p.parent.name)
    )
    if not versions:
        raise FileNotFoundError(
            f"data set {name!r} must lie prepared in the data folder, but {root} has no "
            f"{name}/<version>/dataset_info.json; prepare it with "
            f"`tfds build {name} --file_format=array_record --data_dir={root}`, or pass the folder "
            "that has it"
        )
    return versions[-1].parent


def prepared_digest(folder: Path) -> str:
    """Tell prepared folders apart, which may hold other data under the same name and version."""
    sizes = {file.name: file.stat().st_size for file in folder.iterdir() if file.is_file()}
    return fingerprint_json({"sizes": sizes, "info": file_digest(folder / "dataset_info.json")})[
        :12
    ]


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in name.split("."))


def decode(folder: Path) -> tuple[Arrays, int]:
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
