"""Ways to a budget: the methods one after the other, each going its part of the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from experiments.combined.making import Making, num_bytes
from experiments.combined.methods import METHODS
from experiments.combined.settings import Target, Way, steps_of
from experiments.common.network import Network

__all__ = ["SPLITS", "Parts", "fitted_share", "network_at", "shares_of"]

Parts = tuple[float, ...]
SPLITS: Mapping[int, tuple[Parts, ...]] = MappingProxyType(
    {
        1: ((1.0,),),
        2: ((0.3, 0.7), (0.7, 0.3)),
        3: ((0.15, 0.15, 0.7), (0.3, 0.3, 0.4)),
    }
)
"""Parts of the way that each of so many methods may go, in logarithms of cost."""
ENOUGH, TRIES = 0.97, 6
"""A size between this share of what may be left and all of it fits; how often one is tried."""


def shares_of(share: float, parts: Parts) -> list[float]:
    """Return what is left of the whole after each part of the way to a share.

    Example:
        >>> [round(share, 3) for share in shares_of(0.25, (0.5, 0.5))]
        [0.5, 0.25]
    """
    return [share**gone for gone in itertools.accumulate(parts)]


def network_at(
    making: Making, way: Way, target: Target, parts: Parts, *, fits: bool = True
) -> Network:
    """Compress the whole network by a way until it meets a budget, and re-estimate BatchNorm.

    Bytes are of int8. Channels and factors that others follow are given a share of the parameters,
    and the last method goes on until the file is small enough.

    Args:
        making: of the whole network.
        way: the methods.
        target: the budget.
        parts: of the way, one for each method; they add up to 1.
        fits: save until the bytes fit; without it parameters alone meet the share, which is quicker
            and does to compare splits.

    Raises:
        ValueError: if the budget is out of reach.
    """
    steps, network = steps_of(way), making.whole
    most, total = _limits(making, target)
    shares = shares_of(total, parts)
    for step, share in zip(steps[:-1], shares[:-1], strict=True):
        network = METHODS[step](making, network, target.kind)(share)
    make, share = METHODS[steps[-1]](making, network, target.kind), shares[-1]
    if steps[-1] == "sparse" and len(shares) > 1:
        share /= shares[-2]  # of the weights that are left
    if most is not None and fits:
        share = fitted_share(lambda part: num_bytes(make(part)), most, share)
    return making.renewed(make(share))


def _limits(making: Making, target: Target) -> tuple[int | None, float]:
    """Return the bytes that may be left, and the share of the cost that methods have to reach."""
    if target.kind == "flops":
        return None, target.share
    most = int(target.share * making.dense_bytes)
    total = most / making.rounded_bytes
    if total >= 1:
        raise ValueError(
            f"a budget of bytes asks for more than int8 alone, but {most:,} bytes "
            f"(bytes={target.share}) hold the whole network, {making.rounded_bytes:,} as int8; "
            f"ask for less than {making.rounded_bytes / making.dense_bytes:.2f}"
        )
    return most, total


def fitted_share(size: Callable[[float], int], most: int, start: float) -> float:
    """Find the largest share whose size fits, nearly, by a few steps of the secant rule.

    Args:
        size: bytes at a share; it rises with the share.
        most: bytes that may be left.
        start: the first share that is tried.

    Raises:
        ValueError: if none of those that were tried fits.

    Example:
        >>> share = fitted_share(lambda share: int(1000 * share) + 20, 500, 0.9)
        >>> 485 <= 1000 * share + 20 <= 500
        True
    """
    tried: list[tuple[float, int]] = []
    share = min(start, 1.0)
    aim = (1 + ENOUGH) / 2 * most
    for _ in range(TRIES):
        tried.append((share, size(share)))
        if ENOUGH * most <= tried[-1][1] <= most:
            return share
        share = min(max(_next(tried, aim), 0.3 * share), 1.0)
    fit = [share for share, reached in tried if reached <= most]
    if not fit:
        raise ValueError(
            f"a way reaches its bytes, but {len(tried)} shares from {tried[0][0]:.3f} to "
            f"{tried[-1][0]:.3f} left {min(reached for _, reached in tried):,} of {most:,} at "
            "least; ask for more bytes, or leave the way out"
        )
    return max(fit)


def _next(tried: Sequence[tuple[float, int]], aim: float) -> float:
    """Return where a straight line through the last two sizes, or the origin, meets the aim."""
    share, reached = tried[-1]
    before, earlier = tried[-2] if len(tried) > 1 else (0.0, 0)
    slope = (reached - earlier) / (share - before) if share != before else 0.0
    return share + (aim - reached) / slope if slope > 0 else share * aim / reached
