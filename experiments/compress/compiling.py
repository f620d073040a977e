"""Programs of this command, compiled for the one device of a process that they run on."""

from __future__ import annotations

import jax

from jaxcompress.annotations import Function
from jaxcompress.backend import fast_convolutions

__all__ = ["compiled"]


def compiled(function: Function) -> Function:
    """Compile a function, on a CPU with convolutions that run on oneDNN.

    Several simulated devices keep XLA's own, which `jax.jit` can store.

    Example:
        >>> float(compiled(lambda x: 2 * x)(3.0))
        6.0
    """
    return jax.jit(fast_convolutions(function) if jax.local_device_count() == 1 else function)
