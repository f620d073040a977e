"""The tensors of a PyTorch module, and what they are as arrays."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array

__all__ = ["Module", "as_array", "as_tensor", "held"]

Module: TypeAlias = Any
"""A `torch.nn.Module`."""


def held(module: Module) -> dict[str, dict[str, Any]]:
    """Return a module's parameters, buffers, and attributes that are tensors, by their names.

    Each tensor is there once, under the first of its names.
    """
    import torch

    params, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    known = {id(tensor) for tensor in (*params.values(), *buffers.values())}
    attributes = {}
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor) and id(value) not in known:
                attributes[f"{prefix}.{name}"] = value
                known.add(id(value))
    return {"params": params, "buffers": buffers, "attributes": attributes}


def as_array(tensor: Array) -> Array | None:
    """Copy a tensor to JAX; None where its integers do not fit there, a shape for one without data.

    Example:
        >>> import torch
        >>> as_array(torch.ones(2, dtype=torch.bfloat16)).dtype
        dtype(bfloat16)
    """
    dtype = jax.dtypes.canonicalize_dtype(str(tensor.dtype).removeprefix("torch."))
    if tensor.is_meta:
        return jax.ShapeDtypeStruct(tuple(tensor.shape), dtype)
    host = _on_host(tensor.detach().cpu(), dtype)
    made = jnp.array(host, dtype)  # a copy: PyTorch may change its own in place
    fits = host.dtype.kind not in "iu" or bool((np.asarray(made) == host).all())
    return made if fits else None


def _on_host(tensor: Array, dtype: np.dtype) -> np.ndarray:
    """Return a tensor's NumPy array; NumPy itself does not know the small floats."""
    import torch

    if dtype.kind != "V":
        return tensor.numpy()
    bits = {1: torch.uint8, 2: torch.int16}[dtype.itemsize]
    return tensor.contiguous().view(bits).numpy().view(dtype)


def as_tensor(array: Array, like: Array) -> Array:
    """Copy an array to PyTorch, in 64 bits where `like` has them and JAX had halved them.

    Example:
        >>> import torch
        >>> as_tensor(jnp.ones(2, jnp.bfloat16), torch.ones(2)).dtype
        torch.bfloat16
    """
    import torch

    host = np.array(array)
    if host.dtype.kind == "V":
        bits = torch.from_numpy(host.view({1: np.uint8, 2: np.int16}[host.dtype.itemsize]))
        return bits.view(getattr(torch, str(host.dtype)))
    made = torch.from_numpy(host)
    halved = jax.dtypes.canonicalize_dtype(str(like.dtype).removeprefix("torch.")) == host.dtype
    return made.to(like.dtype) if halved else made
