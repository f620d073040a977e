"""Refusing NaN and infinity by name, before long work starts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, PyTree
from jaxcompress.paths import flatten_with_paths

__all__ = ["non_finite", "require_finite"]


def non_finite(tree: PyTree) -> list[str]:
    """Return the paths of the float leaves that hold NaN or infinity; tracers pass.

    Example:
        >>> non_finite({"a": np.ones(2), "b": np.array([1.0, np.nan]), "c": np.arange(3)})
        ['b']
    """
    leaves = {p: leaf for p, leaf in flatten_with_paths(tree)[0].items() if _is_known_float(leaf)}
    # Arrays elsewhere are looked at where they lie; only the verdicts come to the host, together.
    # Known arrays inside jit are looked at now, not in the program.
    with jax.ensure_compile_time_eval():
        verdicts = jax.device_get({path: _is_finite(leaf) for path, leaf in leaves.items()})
    return [path for path in leaves if not verdicts[path]]


def _is_known_float(leaf: Array) -> bool:
    if isinstance(leaf, jax.core.Tracer | jax.ShapeDtypeStruct):
        return False
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return jnp.issubdtype(dtype, jnp.inexact)


def _is_finite(leaf: Array) -> Array:
    # Nothing is compiled for what NumPy reads without a copy.
    if not isinstance(leaf, jax.Array) or _is_on_host(leaf):
        return np.isfinite(np.asarray(leaf)).all()
    return _all_finite(leaf)


def _is_on_host(leaf: jax.Array) -> bool:
    return leaf.is_fully_addressable and [d.platform for d in leaf.devices()] == ["cpu"]


@jax.jit
def _all_finite(leaf: jax.Array) -> jax.Array:
    return jnp.isfinite(leaf).all()


def require_finite(argument: str, tree: PyTree, remedy: str) -> None:
    """Raise if a float leaf holds NaN or infinity.

    Args:
        argument: its name, for the error.
        tree: any pytree; tracers and abstract leaves pass.
        remedy: what to do then, for the error.

    Raises:
        ValueError: naming all such leaves.

    Example:
        >>> require_finite("scores", {"a[1]": np.array([1.0, np.inf])}, "score again in float32")
        Traceback (most recent call last):
            ...
        ValueError: every number of scores must be finite, but these hold NaN or infinity: a[1]; \
score again in float32
    """
    wrong = non_finite(tree)
    if wrong:
        named = ", ".join(path or argument for path in wrong)
        raise ValueError(
            f"every number of {argument} must be finite, but these hold NaN or infinity: {named}; "
            f"{remedy}"
        )
