"""Decisions over labels: which factor of a product may shrink, and what each component keeps.

Discovery (`choose_factors`) picks a factor for every product axis from what is frozen. Applying a
decision (`spread`) does not choose: the values known at the leaves say which factor varies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxcompress.graph.axes import Axis, Labels, Product
from jaxcompress.graph.labelling import Kind, Labelling

__all__ = ["KEPT", "REMOVED", "choose_factors", "frozen_components", "spread"]

KEPT, REMOVED = 1, 2
"""What is known of an index; gates are numbered from the second on."""


def frozen_components(labelling: Labelling, components: np.ndarray) -> np.ndarray:
    """Return `int[components]`: the first pin that reaches each component, or -1."""
    first = np.full(components.max(initial=-1) + 1, len(labelling.pins))
    for number in reversed(range(len(labelling.pins))):
        first[components[labelling.pins[number].labels]] = number
    first[first == len(labelling.pins)] = -1
    return first


def choose_factors(labelling: Labelling, prefer_last: bool = False) -> None:
    """Let one factor of every used product shrink, and pin the others.

    The first factor (whole heads, whole groups) is chosen unless it is frozen, reaches no leaf
    while another does, or all of it hangs together so that nothing of it could go (groups whose
    channels are shuffled); `prefer_last` takes the last instead (head size, lanes).
    """
    edges, pins = len(labelling.edges), len(labelling.pins)
    before = _with_factors_of_frozen(labelling, labelling.components())
    chosen = _choose(labelling, before, dict.fromkeys(labelling.used, prefer_last))
    components = labelling.components()
    stuck = [n for n, factor in chosen.items() if len(np.unique(components[factor.labels])) == 1]
    if stuck:
        del labelling.edges[edges:], labelling.pins[pins:]
        before = _with_factors_of_frozen(labelling, labelling.components())
        turned = {n: prefer_last != (n in stuck) for n in labelling.used}
        _choose(labelling, before, turned)


def _choose(
    labelling: Labelling, frozen: np.ndarray, prefer_last: Mapping[int, bool]
) -> dict[int, Axis]:
    """Choose a factor of every product that is not frozen; return the factors by product."""
    components = labelling.components()
    anchored = np.zeros(len(frozen), bool)
    kinds = labelling.kind_of_labels()
    anchored[components[(kinds == Kind.LEAF) | (kinds == Kind.FACTOR)]] = True
    chosen = {}
    for number in sorted(labelling.used):
        product = labelling.products[number]
        if frozen[components[product.axis.labels]].any():
            continue
        order = list(range(len(product.factors)))[:: -1 if prefer_last[number] else 1]
        free = [i for i in order if _is_free(product.factors[i], components, frozen)]
        labels = {i: product.factors[i].labels for i in free}
        best = [i for i in free if anchored[components[labels[i]]].any()] or free
        if best:
            chosen[number] = product.factors[best[0]]
            _select(labelling, product, best[0])
        else:
            labelling.pin(product.equation, product.axis, "no factor of it is free to shrink")
    return chosen


def _with_factors_of_frozen(labelling: Labelling, components: np.ndarray) -> np.ndarray:
    """Pin the factors of axes that are frozen; return `bool[components]`, what is frozen then."""
    waiting = set(labelling.used)
    while True:
        first = frozen_components(labelling, components)
        fixed = [
            number
            for number in sorted(waiting)
            if (first[components[labelling.products[number].axis.labels]] >= 0).any()
        ]
        for number in fixed:
            product = labelling.products[number]
            pin = labelling.pins[first[components[product.axis.labels]].max()]
            for factor in product.factors:
                labelling.pin(pin.equation, factor, pin.reason, pin.hard)
        if not fixed:
            return first >= 0
        waiting -= set(fixed)


def _is_free(axis: Axis, components: np.ndarray, frozen: np.ndarray) -> bool:
    return axis.labels is not None and not frozen[components[axis.labels]].any()


def _select(labelling: Labelling, product: Product, position: int) -> None:
    """Tie a whole axis to one of its factors and pin the other factors."""
    _tie_factor(labelling, product, position)
    for other, factor in enumerate(product.factors):
        if other != position:
            labelling.pin(
                product.equation,
                factor,
                f"it is one factor of an axis of {product.axis.size}, of which another shrinks",
            )


def _tie_factor(labelling: Labelling, product: Product, position: int) -> None:
    labels, factor = product.axis.labels, product.factors[position].labels
    assert labels is not None and factor is not None
    shape = [1] * len(product.sizes)
    shape[position] = product.sizes[position]
    labelling.tie_labels(labels, np.broadcast_to(factor.reshape(shape), product.sizes).ravel())


def spread(
    labelling: Labelling, seeds: np.ndarray, conflict: Callable[[int, int], Exception]
) -> np.ndarray:
    """Carry the values known at some labels to every label connected to them.

    Args:
        labelling: the reading; factors that the values decide are tied in it.
        seeds: `int[labels]`, at least 1 where known, 0 elsewhere.
        conflict: makes the error for two connected labels with different values.

    Returns:
        `int[labels]`, 0 where nothing known is connected.

    Raises:
        Exception: whatever `conflict` returns.
    """
    undecided = set(labelling.used)
    while True:
        values = _connected(labelling.components(), seeds, conflict)
        decided = [n for n in sorted(undecided) if _decide(labelling, n, values)]
        decided = decided or [n for n in sorted(undecided) if _empty(labelling, n, values)][:1]
        if not decided:
            return values
        undecided -= set(decided)


def _connected(
    components: np.ndarray, seeds: np.ndarray, conflict: Callable[[int, int], Exception]
) -> np.ndarray:
    known = np.flatnonzero(seeds)
    value = np.zeros(components.max(initial=-1) + 1, seeds.dtype)
    witness = np.zeros(len(value), np.int64)
    value[components[known]], witness[components[known]] = seeds[known], known
    wrong = known[seeds[known] != value[components[known]]]
    if len(wrong):
        raise conflict(int(wrong[0]), int(witness[components[wrong[0]]]))
    return value[components]


def _decide(labelling: Labelling, number: int, values: np.ndarray) -> bool:
    """Tie a product to the factor along which its known values vary; False if none is known."""
    product = labelling.products[number]
    assert product.axis.labels is not None
    known = _varying(values[product.axis.labels].reshape(product.sizes))
    if known is None:
        known = next((i for i, f in enumerate(product.factors) if _varies(f.labels, values)), None)
    if known is None or product.factors[known].labels is None:
        return False
    _tie_factor(labelling, product, known)
    return True


def _empty(labelling: Labelling, number: int, values: np.ndarray) -> bool:
    """Take the first factor of a product of which everything goes: any would do."""
    product = labelling.products[number]
    if product.axis.labels is None or not (values[product.axis.labels] == REMOVED).all():
        return False
    labelled = [i for i, factor in enumerate(product.factors) if factor.labels is not None]
    if not labelled or any((values[product.factors[i].labels] == REMOVED).all() for i in labelled):
        return False
    _tie_factor(labelling, product, labelled[0])
    return True


def _varies(labels: Labels | None, values: np.ndarray) -> bool:
    return labels is not None and bool(np.ptp(values[labels]))


def _varying(values: np.ndarray) -> int | None:
    """Return the only dimension along which values differ; None if they are all the same."""
    dimensions: Sequence[int] = [i for i in range(values.ndim) if np.ptp(values, axis=i).any()]
    return dimensions[0] if len(dimensions) == 1 else None
