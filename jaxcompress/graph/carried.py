"""Inputs that an output replaces (a recurrent carry, a cache): where groups lie on their axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxcompress.graph.axes import Value
from jaxcompress.graph.outputs import Picks
from jaxcompress.graph.program import LabelledProgram

__all__ = ["Carried", "find_carried"]


class Carried(NamedTuple):
    """One axis of one such input that a group touches.

    Attributes:
        path: the input: its number among those after the variables, then its keys.
        shape: the shape it was traced with.
        axis: the axis.
        group: the group's name.
        channels: `int[size]`, the channel that each index belongs to, -1 for none of this group.
    """

    path: str
    shape: tuple[int, ...]
    axis: int
    group: str
    channels: np.ndarray


def find_carried(
    readings: Sequence[tuple[LabelledProgram, Picks]],
    names: Sequence[str],
    group_of: np.ndarray,
    channel_of: np.ndarray,
) -> tuple[Carried, ...]:
    """Return the axes of inputs that groups touch; groups and channels are given per label.

    Raises:
        ValueError: if two functions have different such inputs at one place.
    """
    axes_of: dict[str, list[Carried]] = {}
    for labelled, picks in readings:
        for path in dict.fromkeys(picks.inputs.values()):
            axes = _axes(path, labelled.input(path), names, group_of, channel_of)
            if str(axes_of.setdefault(path, axes)) != str(axes):
                raise ValueError(
                    "inputs that outputs replace stand at the same place in all functions, but "
                    f"input {path} of one has not the channels of another's; reorder the inputs"
                )
    return tuple(entry for axes in axes_of.values() for entry in axes)


def _axes(
    path: str, value: Value, names: Sequence[str], group_of: np.ndarray, channel_of: np.ndarray
) -> list[Carried]:
    axes, shape = [], tuple(axis.size for axis in value.axes)
    for number, axis in enumerate(value.axes):
        groups = np.full(axis.size, -1) if axis.labels is None else group_of[axis.labels]
        for group in np.unique(groups[groups >= 0]):
            channels = np.where(groups == group, channel_of[axis.labels], -1)
            axes.append(Carried(path, shape, number, names[group], channels))
    return axes
