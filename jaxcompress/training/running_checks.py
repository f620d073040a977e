"""What must hold before running statistics are replaced: finite, exact, no more than fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxcompress.annotations import Batch, Function, PyTree
from jaxcompress.compression.precision import widened
from jaxcompress.graph.trainable import Leaves
from jaxcompress.paths import flatten_with_paths

__all__ = ["Checks", "check", "check_types"]


class Checks(NamedTuple):
    """What is known of the statistics by path, once they are computed.

    Attributes:
        finite: `bool[steps]`, whether each batch's are.
        exact: whether the update is m * old + (1 - m) * batch, in float32.
        fits: whether the leaf's dtype holds the average.
    """

    finite: Leaves
    exact: Leaves
    fits: Leaves


def check_types(
    train_apply: Function,
    widened_variables: PyTree,
    images: Batch,
    key: jax.Array,
    leaves: Leaves,
    paths: Sequence[str],
) -> None:
    """Raise unless statistics that come in float32 go on in float32."""
    half = [path for path in paths if leaves[path].dtype != widened(leaves[path]).dtype]
    try:
        state = jax.eval_shape(train_apply, widened_variables, images, key)[1]
    except TypeError as error:
        if not half:
            raise
        raise TypeError(
            "running statistics in half precision are re-estimated in float32, but train_apply "
            f"does not take {half} in float32 ({str(error).splitlines()[0]}); cast the variables "
            "and the batches to float32, re-estimate, and cast them back"
        ) from error
    made = flatten_with_paths(state)[0]
    rounded = [f"{p} ({made[p].dtype})" for p in paths if made[p].dtype.itemsize < 4]
    if rounded:
        raise ValueError(
            "a momentum is known from running updates in float32, but train_apply rounds "
            f"{', '.join(rounded)}; return the new statistics as they are, or cast to the dtype of "
            "the old ones, which come in float32"
        )


def check(checks: Checks) -> None:
    """Raise unless all statistics are to be trusted, naming the batches or leaves."""
    wrong = sorted({int(n) for flags in checks.finite.values() for n in np.flatnonzero(~flags)})
    if wrong:
        paths = [path for path, flags in checks.finite.items() if not flags.all()]
        raise ValueError(
            "running statistics are averages over finite batches, but those of the batches "
            f"{wrong} are NaN or infinite in {paths}; leave these batches out, or look for NaN in "
            "the images and the variables"
        )
    other = [path for path, is_exact in checks.exact.items() if not is_exact]
    if other:
        raise ValueError(
            "a running update is m * old + (1 - m) * batch in float32, but that of "
            f"{other} is another, or is rounded to half precision inside train_apply; cast the "
            "variables after the statistics were updated, or leave these leaves out of statistics="
        )
    large = [path for path, fits in checks.fits.items() if not fits]
    if large:
        raise ValueError(
            f"statistics are stored in the dtype of their leaf, but {large} are more than it "
            "holds; cast these leaves to float32"
        )
