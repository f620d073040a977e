"""Which leaves are parameters: what an optimizer changes, and what a parameter count counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import jax.numpy as jnp

__all__ = ["Trainable", "default_trainable", "in_params", "inexact"]

Trainable: TypeAlias = Callable[[str, Any], bool]
"""`trainable(path, leaf)`: whether the optimizer changes this leaf."""


def inexact(path: str, leaf: Any) -> bool:
    """Accept every floating-point or complex leaf.

    Example:
        >>> inexact("weight", jnp.ones(2)), inexact("count", jnp.int32(0))
        (True, False)
    """
    del path
    return jnp.issubdtype(getattr(leaf, "dtype", None) or jnp.result_type(leaf), jnp.inexact)


def in_params(path: str, leaf: Any) -> bool:
    """Accept the inexact leaves of Linen's ``params`` collection.

    Example:
        >>> in_params("params/Dense_0/bias", 0.0), in_params("batch_stats/BatchNorm_0/mean", 0.0)
        (True, False)
    """
    return path.startswith("params/") and inexact(path, leaf)


def default_trainable(paths: Iterable[str]) -> Trainable:
    """Choose the predicate: `in_params` where there is such a collection, `inexact` elsewhere.

    Pass a predicate of your own where other inexact leaves are state, not parameters (NNX: those
    that are `nnx.Param`; Equinox: those outside `eqx.nn.State`).

    Example:
        >>> default_trainable(["params/scale"]) is in_params
        True
    """
    return in_params if any(path.startswith("params/") for path in paths) else inexact
