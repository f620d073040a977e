"""The three ways to split a kernel in two, and what each rank of them costs.

All are linear in the rank, C(r) = c * r, which is what lets ranks of different layers be traded.
FLOPs are multiply-accumulates x 2; a grouped convolution has rank r in each of its groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jaxcompress.arguments import integer, require

__all__ = ["FactorCost", "channel_cost", "dense_cost", "spatial_cost"]


class FactorCost(NamedTuple):
    """What a site costs, whole and per rank.

    Attributes:
        r_max: the rank with as many parameters as the whole kernel, rounded, at least 1.
        slope: by kind (flops, params), cost per rank of the two factors.
        dense: by kind, cost of the whole kernel.
    """

    r_max: int
    slope: Mapping[str, float]
    dense: Mapping[str, float]


def _cost(first: int, second: int, whole: int, middle: int, positions: int) -> FactorCost:
    """Return the cost of factors with `first` and `second` parameters per rank."""
    return FactorCost(
        r_max=max(1, round(whole / (first + second))),
        slope={
            "flops": 2.0 * (first * middle + second * positions),
            "params": float(first + second),
        },
        dense={"flops": 2.0 * whole * positions, "params": float(whole)},
    )


def spatial_cost(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    positions: int,
    middle_positions: int | None = None,
    groups: int = 1,
) -> FactorCost:
    """Cost of a (height x 1) convolution to r channels and a (1 x width) one to the outputs.

    `r_max = I O h w / (I h + O w)` and `c = 2 (I h P_middle + O w P)`.

    Args:
        inputs: channels in, I.
        outputs: channels out, O.
        kernel: height h and width w.
        positions: output positions P (height x width).
        middle_positions: positions P_middle between the two, which a stride makes more: with stride
            (s, 1), then (1, s), they are s P. The paper's code strides by (s, s) at once, which is
            no longer the same convolution, and counts P. P by default.
        groups: of the convolution.

    Source: ENC (Kim et al., CVPR 2019), supplement, section 1.

    Example:
        >>> spatial_cost(16, 32, (3, 3), positions=256).r_max
        32
    """
    require(
        inputs=integer(inputs),
        outputs=integer(outputs),
        positions=integer(positions),
        middle_positions=integer(middle_positions, optional=True),
        groups=integer(groups),
    )
    height, width = kernel
    whole = inputs * outputs * height * width // groups
    middle = positions if middle_positions is None else middle_positions
    return _cost(inputs * height, outputs * width, whole, middle, positions)


def channel_cost(
    inputs: int, outputs: int, kernel: tuple[int, int], positions: int, groups: int = 1
) -> FactorCost:
    """Cost of a (height x width) convolution to r channels and a 1 x 1 one to the outputs.

    `r_max = I O h w / (I h w + O)` and `c = 2 (I h w + O) P`.

    Args:
        inputs: channels in, I.
        outputs: channels out, O.
        kernel: height h and width w.
        positions: output positions P (height x width).
        groups: of the convolution.

    Example:
        >>> channel_cost(3, 16, (3, 3), positions=1024).r_max
        10
    """
    require(
        inputs=integer(inputs),
        outputs=integer(outputs),
        positions=integer(positions),
        groups=integer(groups),
    )
    area = kernel[0] * kernel[1]
    whole = inputs * outputs * area // groups
    return _cost(inputs * area, outputs, whole, positions, positions)


def dense_cost(inputs: int, outputs: int, positions: int = 1) -> FactorCost:
    """Cost of a matrix of inputs x r and one of r x outputs: `r_max = I O / (I + O)`.

    Args:
        inputs: features in, I.
        outputs: features out, O.
        positions: how often the matrix is applied per example (tokens).

    Example:
        >>> dense_cost(4096, 4096).r_max
        2048
    """
    require(inputs=integer(inputs), outputs=integer(outputs), positions=integer(positions))
    return _cost(inputs, outputs, inputs * outputs, positions, positions)
