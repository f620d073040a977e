"""How long a compression for ImageNet takes: images of each stage over images per second."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CLASSES", "COMPILE_HOURS", "EXAMPLES", "SCORE_COST", "Pace", "Work", "stage_hours"]

EXAMPLES, CLASSES = 1_281_167, 1000
SCORE_COST, COMPILE_HOURS = 3, 0.1
"""A step of masked Fisher or learned gates costs about three of training; both take this long to
compile."""


class Work(NamedTuple):
    """How many images the stages see.

    Attributes:
        stored_views: of each training image, that the teacher answers.
        score_images: that channels are scored on.
        epochs: of the lesson.
    """

    stored_views: int
    score_images: int
    epochs: int


class Pace(NamedTuple):
    """Images per second of one device.

    Attributes:
        forward: of the whole network.
        step: of a training step of the pruned network.
    """

    forward: float
    step: float


def stage_hours(work: Work, pace: Pace) -> dict[str, float]:
    """Return the hours of each stage.

    Example:
        >>> hours = stage_hours(Work(2, 10_000, 100), Pace(7_000.0, 2_000.0))
        >>> {name: round(value, 2) for name, value in hours.items()}
        {'knowledge': 0.1, 'gates': 0.1, 'fine-tune': 17.79}
    """
    return {
        "knowledge": work.stored_views * EXAMPLES / pace.forward / 3600,
        "gates": SCORE_COST * work.score_images / pace.step / 3600 + COMPILE_HOURS,
        "fine-tune": work.epochs * EXAMPLES / pace.step / 3600,
    }
