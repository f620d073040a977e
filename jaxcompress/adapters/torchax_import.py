"""Importing torchax, and nothing more of it: what its import changes for the user is put back.

One thing cannot be: PyTorch's spare device name, `privateuseone`, is called `jax` from then on.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import torch

from jaxcompress.annotations import Array

__all__ = ["Environment", "Tensor", "View", "without_fast_path"]

TELEMETRY = "ENABLE_RUNTIME_UPTIME_TELEMETRY"
CLIENT = "jax_pjrt_client_create_options"


@contextlib.contextmanager
def _named_overloads() -> Iterator[None]:
    """Let operators have overloads for named tensors, which torchax lists and torch 2.13 lacks.

    torchax 0.0.13 names them as keys of its tables, while it is imported, and no call reaches them.
    """
    packet: Any = type(torch.ops.aten.add)
    if hasattr(torch.ops.aten.all, "dimname"):
        yield
        return
    known = packet.__getattr__

    def with_placeholders(operator: Array, overload: str) -> Array:
        try:
            return known(operator, overload)
        except AttributeError:
            if "name" not in overload or overload.startswith("_"):
                raise
            return object()

    packet.__getattr__ = with_placeholders
    try:
        yield
    finally:
        packet.__getattr__ = known


@contextlib.contextmanager
def without_fast_path() -> Iterator[None]:
    """Keep PyTorch's fused attention for inference, which torchax has no lowering for, off."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _tensor_module() -> Any:
    """Import torchax's tensors with all tables that it fills when it is first used."""
    telemetry, options = os.environ.get(TELEMETRY), getattr(jax.config, CLIENT, None)
    with _named_overloads(), without_fast_path(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchax import tensor

        tensor.Environment()
    if telemetry is None:
        os.environ.pop(TELEMETRY, None)
    if getattr(jax.config, CLIENT, None) != options:
        jax.config.update(CLIENT, options)
    return tensor


_tensor = _tensor_module()
Environment: Any = _tensor.Environment
Tensor: Any = _tensor.Tensor
View: Any = _tensor.View
