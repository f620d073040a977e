"""Checks of losses and batches before long work starts."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.finite import non_finite
from jaxcompress.parallel import on_host
from jaxcompress.paths import flatten_with_paths

__all__ = ["check_classes", "check_gradients", "check_scalar"]


def check_scalar(loss: Function, variables: PyTree, batch: Batch) -> None:
    """Raise unless the loss of one batch is a real scalar; nothing is computed.

    Raises:
        ValueError: if it is not.

    Example:
        >>> check_scalar(lambda variables, x: x * variables, 2.0, np.ones(3))
        Traceback (most recent call last):
            ...
        ValueError: a loss is one real number, but this one returns float32[3]; take its mean
    """
    result = jax.eval_shape(loss, variables, batch)
    leaves = jax.tree.leaves(result)
    if len(leaves) == 1 and leaves[0] is result and result.shape == ():
        if np.issubdtype(result.dtype, np.floating) or result.dtype.name == "bfloat16":
            return
    shown = (
        ", ".join(f"{leaf.dtype}{list(leaf.shape)}".replace(", ", ",") for leaf in leaves)
        or "nothing"
    )
    raise ValueError(f"a loss is one real number, but this one returns {shown}; take its mean")


def check_classes(query: Batch) -> None:
    """Raise if a query batch holds examples of one class only.

    Labels are the integer leaves called `label`, `[episodes, batch]`; without any, and for traced
    ones, nothing is checked.

    Raises:
        ValueError: naming the episodes.

    Example:
        >>> check_classes({"label": np.array([[0, 1], [3, 3]])})
        Traceback (most recent call last):
            ...
        ValueError: a query batch needs two classes or more to tell channels apart, but those of \
episodes [1] hold one; draw larger batches, or classes in proportion
    """
    for path, leaf in flatten_with_paths(query)[0].items():
        if path.split("/")[-1] != "label" or isinstance(leaf, jax.core.Tracer):
            continue
        labels = on_host(leaf)
        if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 2:
            continue
        single = np.flatnonzero((labels == labels[:, :1]).all(axis=1)).tolist()
        if single:
            raise ValueError(
                "a query batch needs two classes or more to tell channels apart, but those of "
                f"episodes {single} hold one; draw larger batches, or classes in proportion"
            )


def check_gradients(means: Mapping[str, Array]) -> None:
    """Raise if mean gradients of gates hold NaN or infinity; tracers pass.

    Args:
        means: `{group: float[width]}`.

    Raises:
        FloatingPointError: naming all such groups.

    Example:
        >>> check_gradients({"a[1]": np.array([0.5, np.inf])})
        Traceback (most recent call last):
            ...
        FloatingPointError: gradients must be finite, but those of these groups are not: ['a[1]']; \
look for NaN in the batches, and for a loss that overflows
    """
    wrong = non_finite(dict(means))
    if wrong:
        raise FloatingPointError(
            f"gradients must be finite, but those of these groups are not: {wrong}; look for NaN "
            "in the batches, and for a loss that overflows"
        )
