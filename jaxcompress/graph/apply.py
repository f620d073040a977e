"""Apply mode: carry values known at the leaves through any function of the same variables.

Nothing is decided or frozen here. Each component takes its value (kept or removed, or a gate's
number) from the leaves it reaches; two leaves that disagree are an error naming both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxcompress.graph.internals import source_line
from jaxcompress.graph.program import LabelledProgram
from jaxcompress.graph.resolve import KEPT, REMOVED, spread

__all__ = ["KEPT", "REMOVED", "Known", "carry", "removals"]

Known = Mapping[tuple[str, int], np.ndarray]
"""`int[size]` for a leaf path and axis: the value known at each index, at least 1."""


def carry(labelled: LabelledProgram, known: Known, describe: Callable[[int], str]) -> np.ndarray:
    """Carry values from leaf axes to every connected index.

    Args:
        labelled: a program read with `discover=False`.
        known: values per leaf axis; the other leaf axes hold `KEPT`.
        describe: words for a value, used in errors.

    Returns:
        `int[labels]`; 0 where no leaf is connected.

    Raises:
        ValueError: if two connected leaf indices hold different values.
    """
    seeds = np.zeros(labelled.labelling.count, np.int32)
    for owner in labelled.owners:
        values = known.get((owner.path, owner.axis), KEPT)
        seeds[owner.start : owner.start + owner.size] = values

    def conflict(one: int, other: int) -> Exception:
        left, right = (
            f"{_place(labelled, number)} ({describe(int(seeds[number]))})"
            for number in (one, other)
        )
        return ValueError(
            "connected channels are kept or removed together, but this function connects "
            f"{left} with {right}; trace it together with the first, trace(..., also=[(function, "
            "inputs)]), or select from its own groups"
        )

    return spread(labelled.labelling, seeds, conflict)


def removals(labelled: LabelledProgram, known: Known) -> np.ndarray:
    """Return `bool[labels]`, the indices to remove from every axis.

    Raises:
        ValueError: if connected leaves disagree, or if an axis that loses an index meets one that
            cannot change size.
    """
    values = carry(labelled, known, lambda value: "removed" if value == REMOVED else "kept")
    removed = values == REMOVED
    for pin in labelled.labelling.pins:
        if pin.hard and removed[pin.labels].any():
            raise ValueError(_stuck(labelled, removed, pin))
    return removed


def _stuck(labelled: LabelledProgram, removed: np.ndarray, pin: Any) -> str:
    components = labelled.labelling.components()
    component = components[pin.labels[removed[pin.labels]][0]]
    labels = np.flatnonzero(components == component)
    places = [_place(labelled, int(label)) for label in labels if labelled.owner(int(label))]
    where = "" if pin.equation is None else f" at {source_line(pin.equation)}"
    return (
        f"a removed channel must be removable everywhere, but {', '.join(places[:4])} cannot "
        f"shrink{where}: {pin.reason}; trace this function too (also=) to see which "
        "groups it leaves free"
    )


def _place(labelled: LabelledProgram, number: int) -> str:
    owner = labelled.owner(number)
    if owner is None:
        return "a computed array"
    return f"{owner.path}[{owner.axis}] index {number - owner.start}"
