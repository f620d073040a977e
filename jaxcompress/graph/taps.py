"""How many pairs of an output position and a kernel tap a convolution is charged for.

A tap meets a pixel at position x stride + tap x kernel dilation - padding, if that lies in the
image and, where the image is dilated, not on one of the zeros between its pixels. The pairs of a
convolution are the product of those of its window dimensions, so each is counted alone:

* where the image is dilated (a transposed convolution), or padded by more than keeps its size (a
  full one), only the pairs that meet a pixel are counted, which is what XLA counts everywhere;
* elsewhere the zeros around the image count as pixels, as they do in published counts, but a tap
  that never meets a pixel counts at no position.
"""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

import numpy as np
from jax.extend.core import JaxprEqn

from jaxcompress.graph.internals import shape_of

__all__ = ["Window", "tap_pairs", "windows"]


class Window(NamedTuple):
    """One window dimension of a convolution.

    Attributes:
        size: pixels of the image.
        taps: entries of the kernel.
        outputs: positions of the result.
        stride: positions of the padded image from one output to the next.
        before: zeros before the image, after dilation; negative where it is cropped.
        after: zeros after it.
        dilation: distance of neighbouring pixels.
        spacing: distance of neighbouring taps.
    """

    size: int
    taps: int
    outputs: int
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1
    spacing: int = 1

    @property
    def met(self) -> np.ndarray:
        """`int[taps]`, at how many outputs each tap meets a pixel."""
        offset = np.arange(self.taps) * self.spacing - self.before
        last = (self.size - 1) * self.dilation
        first_output = np.maximum(-(offset // self.stride), 0)
        last_output = np.minimum((last - offset) // self.stride, self.outputs - 1)
        # Output o meets a pixel where o x stride + offset is a multiple of the dilation.
        common = gcd(self.stride, self.dilation)
        period = self.dilation // common
        inverse = pow(self.stride // common, -1, period)
        phase = -(offset // common) * inverse % period
        hits = (last_output - phase) // period - (first_output - 1 - phase) // period
        possible = (offset % common == 0) & (last_output >= first_output) & (self.size > 0)
        return np.where(possible, hits, 0)

    @property
    def pairs(self) -> int:
        """How many pairs of an output and a tap are counted."""
        met = self.met
        widened = self.before + self.after > (self.taps - 1) * self.spacing
        if self.dilation > 1 or widened:
            return int(met.sum())
        return int((met > 0).sum()) * self.outputs


def windows(equation: JaxprEqn) -> tuple[Window, ...]:
    """Return the window dimensions of a `conv_general_dilated`, in the order of its parameters."""
    params, numbers = equation.params, equation.params["dimension_numbers"]
    image, kernel = (shape_of(operand) for operand in equation.invars)
    result = shape_of(equation.outvars[0])
    count = len(params["window_strides"])
    dilations = params["lhs_dilation"] or (1,) * count
    spacings = params["rhs_dilation"] or (1,) * count
    return tuple(
        Window(
            image[numbers.lhs_spec[2 + i]],
            kernel[numbers.rhs_spec[2 + i]],
            result[numbers.out_spec[2 + i]],
            params["window_strides"][i],
            params["padding"][i][0],
            params["padding"][i][1],
            dilations[i],
            spacings[i],
        )
        for i in range(count)
    )


def tap_pairs(equation: JaxprEqn) -> int:
    """Return how many pairs of an output position and a tap a convolution is charged for.

    Args:
        equation: a `conv_general_dilated`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def up(image, kernel):
        ...     return jax.lax.conv_transpose(image, kernel, (2,), "VALID")
        >>> jaxpr = jax.make_jaxpr(up)(jnp.ones((1, 4, 3)), jnp.ones((2, 3, 3)))
        >>> convolution = jaxpr.eqns[-1]
        >>> tap_pairs(convolution), "4 pixels x 2 taps"
        (8, '4 pixels x 2 taps')
    """
    pairs = 1
    for window in windows(equation):
        pairs *= window.pairs
    return pairs
