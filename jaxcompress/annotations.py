"""What the arguments are, where Python's types cannot say it: one name for each kind of thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

__all__ = ["Array", "Batch", "Function", "Json", "PyTree"]

PyTree: TypeAlias = Any
"""Nested containers with arrays at their leaves: variables, gates, optimizer states, inputs."""

Array: TypeAlias = Any
"""An array of NumPy or JAX, a tracer, or, where nothing is computed, `jax.ShapeDtypeStruct`."""

Batch: TypeAlias = Any
"""What an iterable of batches yields: an array or a pytree of arrays `[examples, ...]`."""

Json: TypeAlias = Any
"""A value that JSON can hold: a number, a string, a list, a dict, or None."""

Function: TypeAlias = Callable[..., Any]
"""A pure function of (variables, *inputs) whose results are arrays."""
