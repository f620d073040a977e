"""Batches in parts, whose gradients are added up: where a whole one does not fit on the devices."""

from __future__ import annotations

import optax

__all__ = ["accumulated", "split_problem"]


def accumulated(tx: optax.GradientTransformation, steps: int) -> optax.GradientTransformation:
    """Return an optimizer that updates after so many steps, by the mean of their gradients.

    Args:
        tx: of whole batches; its schedules count updates.
        steps: parts of a batch.

    Example:
        >>> tx = optax.sgd(0.1)
        >>> accumulated(tx, 1) is tx, accumulated(tx, 2) is tx
        (True, False)
    """
    return tx if steps == 1 else optax.MultiSteps(tx, steps).gradient_transformation()


def split_problem(batch_size: int, steps: int, devices: int) -> str | None:
    """Say why a batch does not divide into equal parts on every device; None where it does.

    Args:
        batch_size: images per update.
        steps: parts of a batch.
        devices: that each part is split over.

    Example:
        >>> split_problem(32, 2, 8)
        >>> split_problem(16, 4, 8).rpartition(", but ")[2]
        'batch_size=16 does not divide by 32; take a multiple of 32'
    """
    if batch_size % (steps * devices) == 0:
        return None
    split = f"over {devices} devices"
    if steps > 1:
        split = f"into accumulate_steps={steps} parts, each {split}"
    return (
        f"a batch is split {split}, but batch_size={batch_size} does not divide by "
        f"{steps * devices}; take a multiple of {steps * devices}"
    )
