"""What a student's layer makes of each token, mapped to the width of its teacher's and compared."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxcompress.arguments import integer, require

__all__ = ["hidden_states", "init_projection"]


def init_projection(key: jax.Array, *, student: int, teacher: int) -> jax.Array:
    """Draw W of `hidden_states`, normal of variance ``1 / student``; train it with the student.

    Args:
        key: of the draw.
        student: width of the student's states.
        teacher: width of the teacher's.

    Returns:
        `float32[student, teacher]`.

    Example:
        >>> init_projection(jax.random.key(0), student=2, teacher=3).shape
        (2, 3)
    """
    require(student=integer(student), teacher=integer(teacher))
    return jax.random.normal(key, (student, teacher)) / jnp.sqrt(student)


def hidden_states(
    student_states: jax.Array, teacher_states: jax.Array, projection: jax.Array | None = None
) -> jax.Array:
    """Compare hidden states position by position: ``mean_w (s W - t)_w^2``.

    Args:
        student_states: s `[batch, length, width]`.
        teacher_states: t `[batch, length, teacher's width]`.
        projection: W of `init_projection`, a leaf that is trained; None where the widths are one.

    Returns:
        `float32[batch, length]`; `masked_mean` averages it over the positions that are there.

    Raises:
        ValueError: if the shapes do not meet.

    Source:
        Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", 2019
        (arXiv:1909.10351), L_hidn = MSE(H^S W_h, H^T) of its section on Transformer distillation.

    Example:
        >>> states, projection = jnp.ones((1, 2, 1)), jnp.array([[2.0, 0.0]])
        >>> hidden_states(states, jnp.ones((1, 2, 2)), projection).tolist()
        [[1.0, 1.0]]
    """
    shapes = [student_states.shape, teacher_states.shape]
    width = shapes[0][-1:] if projection is None else projection.shape[1:]
    fits = projection is None or (projection.ndim == 2 and projection.shape[:1] == shapes[0][-1:])
    if not fits or (*shapes[0][:-1], *width) != shapes[1]:
        made = None if projection is None else projection.shape
        raise ValueError(
            "a student's states, projected, have the shape of its teacher's, but they are "
            f"{shapes[0]}, the teacher's {shapes[1]} and the projection {made}; make one by "
            "init_projection(key, student=, teacher=) for these widths"
        )
    mapped = student_states.astype(jnp.float32)
    if projection is not None:
        mapped = mapped @ projection.astype(jnp.float32)
    return jnp.mean(jnp.square(mapped - teacher_states.astype(jnp.float32)), axis=-1)
