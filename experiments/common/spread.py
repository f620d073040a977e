"""How logits vary over views of the same image: the collapse that fixed knowledge is to prevent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress import knowledge
from jaxcompress.annotations import Function, PyTree
from jaxcompress.knowledge import Views

__all__ = ["spread_of"]

IMAGES, VIEWS = 256, 8


def spread_of(
    apply: Function,
    variables: PyTree,
    images: np.ndarray,
    preprocess: Callable[[Any], Any],
    views: Views,
) -> dict[str, float]:
    """Measure how logits vary over 8 views of the first 256 images.

    Args:
        apply: in evaluation mode.
        variables: of the network.
        images: of the test, or of training: these views are none that training showed.
        preprocess: normalises them.
        views: of the augmentation.
    """
    images = images[:IMAGES]
    examples = np.arange(len(images))

    @jax.jit
    def logits(variables: PyTree, index: jax.Array) -> jax.Array:
        drawn = knowledge.views(jax.random.key(1), examples, index, images, settings=views)
        return apply(variables, preprocess(drawn))

    seen = jnp.stack([logits(variables, jnp.int32(view)) for view in range(VIEWS)])
    spread = knowledge.spread(seen)
    return {"view_variance": float(spread.views), "view_ratio": float(spread.ratio)}
