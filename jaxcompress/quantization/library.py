"""All that is asked of qwix, by its public functions: the only module that imports it.

https://github.com/google/qwix, release 0.1.8. Codes are symmetric: w = scale x code, with codes in
-qmax..qmax, qmax = 127 for 8 bits and 7 for 4. qwix itself would give the largest weight the code
qmax + 1/2, which rounds beyond the range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array

__all__ = ["QMAX", "coded", "coded_statically", "contracted", "dequantized", "require_qwix"]

QMAX = {8: 127, 4: 7}
"""The largest code of as many bits."""

CONVOLUTION = (
    "window_strides",
    "padding",
    "lhs_dilation",
    "rhs_dilation",
    "dimension_numbers",
    "feature_group_count",
    "batch_group_count",
    "out_sharding",
)
DOT = ("dimension_numbers", "out_sharding")


def require_qwix() -> Any:
    """Import qwix.

    Raises:
        ImportError: without it.
    """
    try:
        import qwix
    except ImportError as error:
        raise ImportError(
            f"quantization is done by qwix, but it cannot be imported ({error}); install the extra "
            "`quantize`: pip install 'jaxcompress[quantize]'"
        ) from error
    return qwix


def coded(
    array: jax.Array, axes: Sequence[int], bits: int, tiles: Mapping[int, int], share: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Round an array to codes, with a scale for each index along some axes.

    scale = share x max|array| / qmax over the other axes; 1 where that is 0.

    Args:
        array: float32.
        axes: that have a scale for each index.
        bits: of a code, 8 or 4.
        tiles: how many indices of an axis share a scale.
        share: what is above this share of the largest entry is cut off.

    Returns:
        `int8[shape]` and the scales, float32, of size 1 along the other axes.

    Example:
        >>> codes, scales = coded(jnp.array([[127.0, -1.0], [0.0, 2.54]]), [1], 8, {})
        >>> codes.tolist(), scales.shape
        ([[127, -50], [0, 127]], (1, 2))
    """
    full = (QMAX[bits] + 0.5) / QMAX[bits]
    rounded = require_qwix().quantize(
        array,
        {8: jnp.int8, 4: jnp.int4}[bits],
        channelwise_axes=list(axes),
        tiled_axes=dict(tiles),
        calibration_method=f"absmax,{full * share!r}",
    )
    codes = rounded.qvalue.astype(jnp.int8)
    # What is cut off below would get the one code more that negative numbers have.
    return codes if share == 1 else jnp.maximum(codes, -QMAX[bits]), rounded.scale


def coded_statically(array: jax.Array, largest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Round an array to codes of 8 bits with a scale that is known, and cut off what is above.

    Args:
        array: float32.
        largest: what gets the code 127, one number.

    Example:
        >>> codes, scales = coded_statically(jnp.array([1.0, -5.0, 0.2]), jnp.array(1.27))
        >>> codes.tolist(), scales.shape
        ([100, -127, 20], (1,))
    """
    qmax = QMAX[8]
    scale = jnp.asarray(largest, jnp.float32) / qmax
    # Cut off before it is cast: what a cast does beyond the range differs between runtimes.
    codes = jnp.clip(jnp.round(array / scale), -qmax, qmax).astype(jnp.int8)
    return codes, scale.reshape((1,) * array.ndim)


def dequantized(codes: jax.Array, scales: jax.Array) -> Any:
    """Return scale x code, float32.

    Example:
        >>> dequantized(jnp.array([[2, -3]], jnp.int8), jnp.array([[0.5, 2.0]])).tolist()
        [[1.0, -6.0]]
    """
    qwix = require_qwix()
    return qwix.dequantize(qwix.QArray(codes, scales))


def contracted(
    name: str,
    operands: Sequence[tuple[jax.Array, jax.Array]],
    params: Mapping[str, Array],
) -> jax.Array:
    """Contract two arrays of codes, summed in int32, and scale the sums, in float32.

    Args:
        name: "dot_general" or "conv_general_dilated".
        operands: codes and scales of the left and of the right one.
        params: of the equation.
    """
    qwix = require_qwix()
    left, right = (qwix.QArray(*operand) for operand in operands)
    if name == "dot_general":
        result: jax.Array = qwix.dot_general(left, right, **{key: params[key] for key in DOT})
        return result
    options = {key: params[key] for key in CONVOLUTION if key in params}
    result = qwix.conv_general_dilated(left, right, **options)
    return result
