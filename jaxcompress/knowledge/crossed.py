"""The crossed assistant: taught on the stored views of an image to answer for its other views.

An assistant that only ever sees one stored answer per image has nothing to tell it how a teacher's
answer changes with the view. Where two or more views are stored, one can be held back: the
assistant gets the knowledge of another view and what the student makes of this one, and its answer
is compared with what the teacher said. On views that nobody stored it then answers alone.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxcompress.arguments import integer, real, require
from jaxcompress.knowledge.assistant import Params, assistant_logits
from jaxcompress.knowledge.losses import kd

__all__ = ["CrossedTargets", "alternate_views", "crossed_targets"]


class CrossedTargets(NamedTuple):
    """What the student learns from, and what trains the assistant.

    Attributes:
        logits: `float32[batch, classes]`, the teacher's own where the view is stored, else the
            assistant's; no gradient passes.
        assistant: `float32[batch]`, the assistant's loss; zero where the view is not stored.
    """

    logits: jax.Array
    assistant: jax.Array


def crossed_targets(
    params: Params,
    teacher_logits: jax.Array,
    view_features: jax.Array,
    teacher_features: jax.Array | None,
    views: jax.Array,
    temperature: float,
) -> CrossedTargets:
    """Answer for any view from the stored ones: ``a_v = A(z_w, f_w, g_v)`` with w another view.

    For a stored view v, ``w = (v + 1) mod V``: the assistant does not see the answer that it is
    compared with, ``kd(a_v, z_v)``, and the student learns from z_v. For any other v, ``w = v mod
    V`` and the student learns from ``stop(a_v)``.

    Args:
        params: of `init_assistant`.
        teacher_logits: z `[batch, V, classes]`, stored, V >= 2.
        view_features: g `[batch, ...]`, what the student makes of the view at hand.
        teacher_features: f `[batch, V, ...]`, stored, or None.
        views: `int[batch]`, the number of the view at hand; below V where it is stored.
        temperature: T > 0 of the assistant's distillation.

    Raises:
        ValueError: if fewer than two views are stored.

    Source:
        Ours, as `assistant_logits`.

    Example:
        >>> from jaxcompress.knowledge.assistant import init_assistant
        >>> params = init_assistant(jax.random.key(0), classes=2, knowledge=0, view=3)
        >>> z = jnp.array([[[1.0, 2.0], [5.0, 6.0]]])
        >>> crossed_targets(params, z, jnp.ones((1, 3)), None, jnp.array([1]), 4.0).logits.tolist()
        [[5.0, 6.0]]
        >>> crossed_targets(params, z, jnp.ones((1, 3)), None, jnp.array([2]), 4.0).logits.tolist()
        [[1.0, 2.0]]
    """
    require(temperature=real(temperature, above=0))
    count = teacher_logits.shape[1]
    if count < 2:
        raise ValueError(
            "the crossed assistant holds one stored view back and learns from another, but "
            f"teacher_logits {teacher_logits.shape} has {count} view; store at least two"
        )
    stored = views < count
    other = jnp.where(stored, views + 1, views) % count
    known = None if teacher_features is None else _pick(teacher_features, other)
    answer = assistant_logits(params, _pick(teacher_logits, other), view_features, known)
    truth = _pick(teacher_logits, views % count).astype(jnp.float32)
    loss = jnp.where(stored, kd(answer, truth, temperature), 0.0)
    target = jnp.where(stored[:, None], truth, jax.lax.stop_gradient(answer))
    return CrossedTargets(target, loss)


def alternate_views(examples: jax.Array, epoch: jax.Array, *, stored: int) -> jax.Array:
    """Choose a stored view for every other example, a new one for the rest; then change over.

    Args:
        examples: `int[batch]`, their numbers.
        epoch: which pass over the data.
        stored: V, the views 0 to this, exclusive, are stored.

    Returns:
        `int[batch]`: ``(epoch // 2) mod V`` where example + epoch is even, else ``V + epoch``.

    Example:
        >>> alternate_views(jnp.arange(4), 3, stored=2).tolist()
        [5, 1, 5, 1]
    """
    require(stored=integer(stored))
    known = (epoch // 2) % stored
    return jnp.where((examples + epoch) % 2 == 0, known, stored + epoch)


def _pick(knowledge: jax.Array, views: jax.Array) -> jax.Array:
    """Take one view of each example: `[batch, V, ...]` to `[batch, ...]`."""
    return jax.vmap(lambda records, view: records[view])(knowledge, views)
