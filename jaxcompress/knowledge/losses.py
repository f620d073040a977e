"""Losses over logits: pure functions of arrays, one value per example."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

__all__ = ["cross_entropy", "kd"]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of integer labels, ``-log softmax(logits)[label]``, in nats.

    Args:
        logits: `[batch, classes]`.
        labels: `int[batch]`.

    Returns:
        `float32[batch]`, computed in float32 whatever the dtype of the logits.

    Example:
        >>> print(cross_entropy(jnp.zeros((2, 4)), jnp.array([0, 3])))
        [1.3862944 1.3862944]
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)


def kd(
    student_logits: jax.Array, teacher_logits: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """Knowledge distillation: how far the student's softened answers are from the teacher's.

    ``T^2 * KL(softmax(teacher_logits / T) || softmax(student_logits / T))``, in nats. The factor
    T^2 is included: without it gradients shrink as 1 / T^2 and a weight between this and
    `cross_entropy` would mean something else at each temperature.

    Args:
        student_logits: `[batch, classes]`.
        teacher_logits: `[batch, classes]`; no gradient is stopped.
        temperature: T > 0.

    Returns:
        `float32[batch]`, zero where the two agree up to a constant.

    Source:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.
        Theirs is the cross-entropy of the two, larger than the KL divergence by the teacher's
        entropy, which does not depend on the student.

    Example:
        >>> logits = jnp.array([[1.0, 2.0, 3.0]])
        >>> kd(logits, logits + 5, 4.0).tolist()
        [0.0]
    """
    student = jax.nn.log_softmax(student_logits.astype(jnp.float32) / temperature)
    teacher = jax.nn.log_softmax(teacher_logits.astype(jnp.float32) / temperature)
    return temperature**2 * jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)
