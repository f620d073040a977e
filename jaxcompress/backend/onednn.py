"""Convolutions by oneDNN's kernels, which jaxlib for x86 Linux carries and XLA leaves unused.

XLA's CPU compiler runs oneDNN where a program holds a custom call of this name. The call is written
here, because the pass that would write it is not in the compiler's pipeline (jaxlib 0.10.2, with
`--xla_cpu_use_onednn` and `--xla_cpu_experimental_onednn_custom_call` as without). Nothing promises
that a later jaxlib understands the call: `available` knows those that were tried.
"""

from __future__ import annotations

import functools
import json
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax

from jaxcompress.per_device import per_device

__all__ = ["available", "convolution", "dtypes"]

BFLOAT16_NEEDS = ("avx512f", "avx512bw", "avx512vl", "avx512dq")
TARGET = "__onednn$convolution"
TRIED = ((0, 10),)


def available() -> bool:
    """Tell whether this jaxlib is known to understand the call: x86-64 Linux, and a tried version.

    Example:
        >>> available() <= (sys.platform == "linux")
        True
    """
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return sys.platform == "linux" and is_x86 and jax.__version_info__[:2] in TRIED


@functools.cache
def dtypes() -> tuple[str, ...]:
    """Name the types that its kernels run in on this processor.

    Those in bfloat16 are made of AVX-512 and end the process where there is none, by an illegal
    instruction.

    Example:
        >>> dtypes()[0]
        'float32'
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return ("float32", "bfloat16") if set(BFLOAT16_NEEDS) <= set(flags) else ("float32",)


def convolution(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> jax.Array:
    """Convolve `[batch, *space, in]` with `[*space, in, out]`, on the CPU alone.

    Equal to `jax.lax.conv_general_dilated` with `rhs_dilation=dilation` in these layouts, up to the
    order of summation. There is no derivative.

    Args:
        images: of one of `dtypes()`.
        kernel: of the same dtype.
        strides: one per spatial axis.
        padding: `(low, high)` per spatial axis, none negative.
        dilation: of the kernel, one per spatial axis.

    Example:
        >>> images, kernel = jax.numpy.ones((1, 2, 2, 3)), jax.numpy.ones((1, 1, 3, 4))
        >>> no_padding = ((0, 0), (0, 0))
        >>> convolution(images, kernel, (1, 1), no_padding, (1, 1)).shape if available() else None
        (1, 2, 2, 4)
    """
    sizes = [
        (size + low + high - (taps - 1) * dilated - 1) // stride + 1
        for size, taps, stride, (low, high), dilated in zip(
            images.shape[1:-1], kernel.shape[:-2], strides, padding, dilation, strict=True
        )
    ]
    shape = (images.shape[0], *sizes, kernel.shape[-1])
    result = jax.ShapeDtypeStruct(shape, images.dtype)
    call = jax.ffi.ffi_call(
        TARGET,
        result,
        custom_call_api_version=1,
        legacy_backend_config=_config(kernel.shape, strides, padding, dilation),
        vmap_method="sequential",
    )
    images, kernel = per_device((images, kernel), None, like=(images, kernel))
    # What a foreign call gives is not known to differ between devices, even where its operands do.
    return per_device(call(images, kernel), None, like=(images, kernel))


def _config(
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> str:
    """Write `xla.cpu.BackendConfig` as JSON, where 64-bit numbers are strings."""
    rank = len(kernel)
    data = {
        "batch_dim": "0",
        "feature_dim": str(rank - 1),
        "spatial_dims": _strings(range(1, rank - 1)),
    }
    filter_ = {
        "input_feature_dim": str(rank - 2),
        "output_feature_dim": str(rank - 1),
        "spatial_dims": _strings(range(rank - 2)),
    }
    window = {
        "size": _strings(kernel[:-2]),
        "pad_left": _strings(low for low, _ in padding),
        "pad_right": _strings(high for _, high in padding),
        "strides": _strings(strides),
        "window_dilations": _strings(dilation),
    }
    settings = {
        "dims": str(rank),
        "input": {"data": data},
        "kernel": {"filter": filter_},
        "output": {"data": data},
        "window": window,
        "feature_groups": "1",
    }
    return json.dumps({"onednn_conv_config": settings})


def _strings(numbers: Iterable[int]) -> list[str]:
    return [str(number) for number in numbers]
