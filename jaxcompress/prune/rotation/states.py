"""What is known of an array while a stream is followed: what each axis does under a rotation.

An orthogonal Q turns the channels of a stream, x -> x Q. Of every array it is known, axis by axis,
whether it turns too, or cannot be told from what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

__all__ = ["TURNING", "Multiple", "Scaled", "State", "Status", "plain"]


class Status(Enum):
    """What one axis of an array does.

    VARIES: nothing, its entries are what they were.
    SAME: nothing, and all entries along it are equal.
    TURNS: it is multiplied by Q.
    SQUARE: it is an entry-wise product of two that turn, which a sum has to follow.
    SCALED: it turned before a leaf scaled its channels, which a kernel has to follow.
    """

    VARIES = "varies"
    SAME = "same"
    TURNS = "turns"
    SQUARE = "square"
    SCALED = "scaled"


TURNING = (Status.TURNS, Status.SQUARE, Status.SCALED)


class Multiple(NamedTuple):
    """A leaf of one number for each channel, times what is the same for all channels.

    Attributes:
        leaf: its path.
        is_exact: whether it is the leaf itself.
    """

    leaf: str
    is_exact: bool = True


class Scaled(NamedTuple):
    """Channels x as factor * (x * scale + weight * shift), the factor the same for all channels.

    Attributes:
        scale: path of the leaf.
        shift: path of the leaf that was added next; empty for none.
        weight: how often the shift counts; None where that is unknown.
    """

    scale: str
    shift: str = ""
    weight: float | None = 1.0

    def times(self, number: float | None) -> Scaled:
        """Return what a multiplication by a number makes of it; None for an unknown one."""
        if not self.shift:
            return self
        is_known = number is not None and self.weight is not None
        return self._replace(weight=number * self.weight if is_known else None)  # type: ignore[operator]


class State(NamedTuple):
    """What is known of one array.

    Attributes:
        axes: a status for each.
        multiple: the leaf that it is a multiple of.
        scaled: what a scaled axis waits for.
        number: the number that all entries are, if known.
    """

    axes: tuple[Status, ...]
    multiple: Multiple | None = None
    scaled: Scaled | None = None
    number: float | None = None

    @property
    def turns(self) -> bool:
        """Whether any axis does."""
        return any(status in TURNING for status in self.axes)

    def only(self, status: Status) -> bool:
        """Tell whether it turns, and wherever it does, in this way."""
        return self.turns and all(each == status for each in self.axes if each in TURNING)


def plain(shape: Sequence[int], number: float | None = None) -> State:
    """Return the state of an array that has nothing to do with the stream.

    Example:
        >>> [status.value for status in plain((1, 3)).axes]
        ['same', 'varies']
    """
    is_known = number is not None
    statuses = (Status.SAME if is_known or size == 1 else Status.VARIES for size in shape)
    return State(tuple(statuses), number=number)
