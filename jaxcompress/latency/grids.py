"""Which widths of an axis are measured."""

from __future__ import annotations

from jaxcompress.arguments import integer, require

__all__ = ["width_grid"]


def width_grid(width: int, points: int = 8, multiple_of: int = 8) -> tuple[int, ...]:
    """Return about `points` widths from a step to the whole, in equal steps of a multiple.

    step = the multiple of `multiple_of` next above width / points; the whole is always the last.

    Args:
        width: of the axis as it is.
        points: at most how many.
        multiple_of: of what steps are multiples: channels that a processor takes at once.

    Example:
        >>> width_grid(64), width_grid(20), width_grid(512, points=4)
        ((8, 16, 24, 32, 40, 48, 56, 64), (8, 16, 20), (128, 256, 384, 512))
    """
    require(width=integer(width), points=integer(points), multiple_of=integer(multiple_of))
    step = -(-width // (points * multiple_of)) * multiple_of
    return (*range(step, width, step), width)
