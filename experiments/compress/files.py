"""Examples from an `.npz`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.common.stage_files import read_arrays
from experiments.compress.nearest import nearest
from experiments.compress.splits import Splits

__all__ = ["arrays_of"]

NAMES = {
    "images": "image",
    "inputs": "image",
    "labels": "label",
    "test_images": "image",
    "test_inputs": "image",
    "test_labels": "label",
}
SYNONYMS = {
    "train_images": "images",
    "train_inputs": "inputs",
    "train_labels": "labels",
    "x_train": "inputs",
    "y_train": "labels",
    "x_test": "test_inputs",
    "y_test": "test_labels",
}
"""What others call them: where a test set is stored too, and in the files of Keras."""


def arrays_of(file: Path) -> Splits:
    """Read the arrays that NAMES lists, or their SYNONYMS.

    Raises:
        ValueError: if the file is not there, is damaged, or holds other arrays, one of them under
            two names, or no inputs.
    """
    if not file.is_file():
        there = [str(other) for other in sorted(file.parent.glob("*.npz"))]
        otherwise = "" if there else f"{file.parent} holds no .npz"
        raise ValueError(f"data: there is no file {file}; {nearest(str(file), there, otherwise)}")
    arrays, problems = _named(_read(file))
    problems += [
        f"{name!r} is none of the arrays that are read; {nearest(name, NAMES)}"
        for name in arrays
        if name not in NAMES
    ]
    inputs = [name for name in ("images", "inputs") if name in arrays]
    tests = [name for name in ("test_images", "test_inputs") if name in arrays]
    if len(inputs) != 1 or len(tests) > 1:
        problems.append(
            f"one array holds the inputs, 'images' or 'inputs', but it has {sorted(arrays)}"
        )
    if "test_labels" in arrays and not tests:
        problems.append("'test_labels' belong to 'test_images', which are not there; add them")
    if problems:
        raise ValueError(f"data: {file} cannot be used:\n- " + "\n- ".join(problems))
    train = _split(arrays, inputs[0], "labels")
    return Splits(train, _split(arrays, tests[0], "test_labels") if tests else None, ())


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        return read_arrays(file)
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise ValueError(f"data: an .npz is whole, but {error}") from error
        raise ValueError(
            f"data: arrays hold numbers, but one of {file} holds Python objects; save it with one "
            "dtype and one shape for all examples"
        ) from error


def _named(arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return arrays by our names, and which are there under both."""
    twice = [name for name in arrays if SYNONYMS.get(name) in arrays]
    problems = [f"{name!r} and {SYNONYMS[name]!r} are the same; keep one" for name in twice]
    return {SYNONYMS.get(name, name): array for name, array in arrays.items()}, problems


def _split(arrays: dict[str, np.ndarray], inputs: str, labels: str) -> dict[str, np.ndarray]:
    there = [name for name in (inputs, labels) if name in arrays]
    return {NAMES[name]: arrays[name] for name in there}
