"""A model and data brought together: in which order channels come, and what the outputs are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from experiments.common.data import IMAGENET
from experiments.compress.data import Data, Pixels
from experiments.compress.model import Model
from experiments.compress.settings import Config
from jaxcompress import artifact
from jaxcompress.annotations import PyTree

__all__ = ["Task", "fitted", "pixels_of"]

Outputs = Literal["classes", "values"]
PUBLISHED = {"efficientnet_lite0": ((127 / 255,) * 3, (128 / 255,) * 3)}
"""Means and deviations that published weights expect, where they are not `IMAGENET`."""


class Task(NamedTuple):
    """What is compressed, and what it is for.

    Attributes:
        model: the whole network.
        data: what it is given.
        outputs: logits of classes, or any values.
    """

    model: Model
    data: Data
    outputs: Outputs

    @property
    def is_judged_by_labels(self) -> bool:
        """Whether accuracy can be told."""
        return self.data.has_labels and self.outputs == "classes"

    @property
    def learns_from_labels(self) -> bool:
        """Whether labels are used for more than judging."""
        return self.is_judged_by_labels and "label" in self.data.train

    def one(self) -> jax.ShapeDtypeStruct:
        """Return one example of the inputs, abstractly."""
        return self.data.one()


def pixels_of(config: Config, train: dict[str, np.ndarray]) -> Pixels:
    """Return how pixels are scaled: as asked, or as a shipped network's weights expect."""
    images, is_own = train["image"], ":" in config.model
    default: tuple[tuple[float, ...], tuple[float, ...]] = ((0.0,), (1.0,))
    if not is_own and images.dtype == np.uint8:
        flat = images.reshape(-1, images.shape[-1]) / 255
        default = tuple(map(float, flat.mean(0))), tuple(float(s) or 1.0 for s in flat.std(0))
        if config.weights is not None:
            published = PUBLISHED.get(config.model, IMAGENET)
            default = published if config.weights.is_file() else _noted(config.weights, default)
    return Pixels(config.mean or default[0], config.std or default[1])


def _noted(folder: Path, otherwise: Any) -> Any:
    """Return what an artifact of this command says of its pixels."""
    noted = artifact.inspect(folder)["metadata"] or {}
    if not {"mean", "std"} <= noted.keys():
        return otherwise
    return tuple(noted["mean"]), tuple(noted["std"])


def fitted(config: Config, model: Model, data: Data) -> Task:
    """Find the order of channels that the model takes, and check what it gives.

    Raises:
        ValueError: if it takes the examples in no order, its example is unlike them, or its
            outputs are no one array with a row per example, or have fewer classes than the labels.
    """
    data, outputs = _ordered(config, model, data)
    leaves = jax.tree.leaves(outputs)
    shapes = [list(leaf.shape) for leaf in leaves]
    if len(leaves) != 1 or shapes[0][:1] != [2]:
        raise ValueError(
            "model: what it returns is one array with a row for each example, but of 2 examples it "
            f"returns arrays of shapes {shapes}; return the array that matters"
        )
    is_row = len(shapes[0]) == 2 and shapes[0][1] >= 2
    kind: Outputs = "values"
    if config.outputs == "classes" or (config.outputs == "auto" and is_row):
        kind = "classes"
    if kind == "classes" and data.has_labels and is_row and data.num_classes > shapes[0][1]:
        raise ValueError(
            f"data: labels are below the model's {shapes[0][1]} outputs, but the largest is "
            f"{data.num_classes - 1}; pass the data that it was trained on, or --outputs values"
        )
    return Task(model, data, kind)


def _ordered(config: Config, model: Model, data: Data) -> tuple[Data, PyTree]:
    """Return the data in the order that the model takes, and the shapes of its outputs."""
    orders = {"last": [False], "first": [True], "auto": [False, True]}[config.channels]
    if config.channels == "auto" and model.kind in ("PyTorch", "Equinox") and _are_pixels(data):
        orders = [True, False]
    failures = []
    for is_first in orders:
        pixels = dataclasses.replace(data.inputs, is_first=is_first)
        one = data.one(pixels)
        two = jax.ShapeDtypeStruct((2, *one.shape[1:]), one.dtype)
        if (wanted := _wanted(model)) is not None and wanted != one.shape[1:]:
            failures.append(f"{list(one.shape[1:])}: its example is {list(wanted)}")
            continue
        try:
            return data._replace(inputs=pixels), jax.eval_shape(model.apply, model.variables, two)
        except Exception as error:  # whatever a model of one's own may raise
            failures.append(f"{list(one.shape[1:])}: {type(error).__name__}: {_short(error)}")
    raise ValueError(
        "model: it takes a batch of the data's examples, but does not, of shape "
        + "; nor of shape ".join(dict.fromkeys(failures))
    )


def _are_pixels(data: Data) -> bool:
    images = data.train["image"]
    return images.dtype == np.uint8 and images.ndim == 4 and images.shape[-1] in (1, 3, 4)


def _wanted(model: Model) -> tuple[int, ...] | None:
    return None if model.example is None else tuple(np.shape(model.example)[1:])


def _short(error: BaseException) -> Any:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""
