"""Training and test examples, checked before anything is done with them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxcompress.annotations import Json

__all__ = ["Splits", "array_problems", "checked"]


class Splits(NamedTuple):
    """What was read.

    Attributes:
        train: `{"image", "label"}`, the latter where there are labels.
        test: the same; None to hold a part of the training examples out.
        notes: what was skipped or changed.
    """

    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray] | None
    notes: tuple[str, ...]


def checked(splits: Splits, name: str, held_out: float, seed: int) -> Any:
    """Return the splits, both there, of arrays that fit together.

    Raises:
        ValueError: naming everything that does not fit.

    Example:
        >>> splits = checked(Splits({"image": np.zeros((20, 3))}, None, ()), "mine", 0.1, 0)
        >>> len(splits.train["image"]), len(splits.test["image"])
        (18, 2)
    """
    parts = {"training": splits.train, "test": splits.test}
    there = {part: arrays for part, arrays in parts.items() if arrays is not None}
    problems = [p for part, arrays in there.items() for p in array_problems(part, arrays)]
    if splits.test is not None and not problems:
        problems = _unlike(splits.train, splits.test)
    if problems:
        raise ValueError(f"data: {name} cannot be used:\n- " + "\n- ".join(problems))
    if splits.test is not None:
        return splits
    return _held_out(splits, held_out, seed)


def array_problems(part: str, arrays: dict[str, np.ndarray]) -> list[str]:
    """Say what is wrong with the inputs and labels of one split.

    Example:
        >>> array_problems("test", {"image": np.zeros((4, 2)), "label": np.zeros(3, int)})
        ['there is one label per example, but 4 test examples have labels [3]; pair them']
    """
    images, labels = arrays["image"], arrays.get("label")
    least = 10 if part == "training" else 1
    if images.ndim < 2 or len(images) < least:
        return [
            f"inputs are arrays [examples, ...] of at least {least} {part} examples, but have the "
            f"shape {list(images.shape)}; give more, or an axis of examples"
        ]
    if not (np.issubdtype(images.dtype, np.number) or images.dtype == bool):
        return [f"inputs are numbers, but the {part} ones are {images.dtype}; convert them"]
    problems = []
    if np.issubdtype(images.dtype, np.inexact):
        wrong = np.flatnonzero(~np.isfinite(images).reshape(len(images), -1).all(1))
        if len(wrong):
            problems.append(
                f"inputs are finite, but {len(wrong)} {part} examples hold NaN or infinity, the "
                f"first is number {wrong[0]}; leave them out"
            )
    return problems if labels is None else problems + _label_problems(part, images, labels)


def _label_problems(part: str, images: np.ndarray, labels: np.ndarray) -> list[str]:
    if labels.shape != (len(images),):
        return [
            f"there is one label per example, but {len(images)} {part} examples have labels "
            f"{list(labels.shape)}; pair them"
        ]
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        described: Json = labels.dtype if labels.dtype.kind not in "iu" else int(labels.min())
        return [
            f"labels are whole numbers from 0 on, but the {part} ones hold {described}; number the "
            "classes"
        ]
    return []


def _unlike(train: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> list[str]:
    problems = []
    if train.keys() != test.keys():
        problems.append(
            f"both splits have labels or none has, but training holds {sorted(train)} and test "
            f"{sorted(test)}; give both"
        )
    shapes = [part["image"].shape[1:] for part in (train, test)]
    kinds = [part["image"].dtype for part in (train, test)]
    if shapes[0] != shapes[1] or kinds[0] != kinds[1]:
        problems.append(
            f"examples of both splits are alike, but training holds {kinds[0]}{list(shapes[0])} "
            f"and test {kinds[1]}{list(shapes[1])}; bring them to one"
        )
    return problems


def _held_out(splits: Splits, share: float, seed: int) -> Splits:
    """Split a share of the examples off, at random, the same ones each time."""
    total = len(splits.train["image"])
    order = np.random.default_rng(seed).permutation(total)
    count = max(1, round(share * total))
    test = {name: array[order[:count]] for name, array in splits.train.items()}
    train = {name: array[order[count:]] for name, array in splits.train.items()}
    note = f"{count} of {total} examples, at random, are held out to test on"
    return Splits(train, test, (*splits.notes, note))
