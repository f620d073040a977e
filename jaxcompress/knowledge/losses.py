"""Losses over logits: pure functions of arrays, one value per example where examples are apart.

The last axis is that of the classes; of logits `[batch, length, classes]` of sequences there is one
value per position (but for `dist`), and `masked_mean` leaves out those that are padding.

A logit of -inf excludes its class. A divergence runs over the classes that the teacher has, so that
classes which both exclude add nothing; it is +inf where the student alone excludes one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jaxcompress.arguments import real, require
from jaxcompress.knowledge.softened import check_temperature, divergence, log_mass, softened

__all__ = ["cross_entropy", "dist", "dkd", "kd", "kd_top_k"]


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
        temperature: T > 0, finite.

    Returns:
        `float32[batch]`, zero where the two agree up to a constant.

    Raises:
        ValueError: if the temperature is known and not finite and above 0.

    Source:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.
        Theirs is the cross-entropy of the two, larger than the KL divergence by the teacher's
        entropy, which does not depend on the student.

    Example:
        >>> logits = jnp.array([[1.0, 2.0, 3.0]])
        >>> kd(logits, logits + 5, 4.0).tolist()
        [0.0]
    """
    student = softened(student_logits, temperature)
    teacher = softened(teacher_logits, temperature)
    return temperature**2 * divergence(teacher, student)


def kd_top_k(
    student_logits: jax.Array,
    values: jax.Array,
    indices: jax.Array,
    rest: jax.Array,
    temperature: float | jax.Array,
) -> jax.Array:
    """Knowledge distillation from the teacher's k largest logits, all other classes as one.

    ``T^2 * KL(p || q)`` over k + 1 events: the k stored classes, and "any other", of probability
    ``1 - Σ_k``. Normalising the k alone would pretend that the others never occur and pull the
    student to overconfidence.

    Args:
        student_logits: `[batch, classes]`.
        values: `[batch, k]`, the teacher's k largest logits, k < classes.
        indices: `int[batch, k]`, their classes.
        rest: `[batch]`, ``T * logsumexp(z_c / T)`` over the classes c that are not stored, at the
            same T.
        temperature: T > 0, finite.

    Returns:
        `float32[batch]`, at most `kd` of all classes, and equal to it for k = classes - 1.

    Raises:
        ValueError: if the temperature is known and not finite and above 0.

    Source:
        Anshumann et al., "Sparse Logit Sampling", 2025, on the bias of top-k knowledge and the one
        further class ("ghost token") that takes the remaining mass.

    Example:
        >>> logits = jnp.array([[3.0, 1.0, 0.0]])
        >>> rest = jax.nn.logsumexp(logits[:, 1:], axis=-1)
        >>> round(float(kd_top_k(logits, logits[:, :1], jnp.array([[0]]), rest, 1.0)[0]), 6)
        0.0
    """
    check_temperature(temperature)
    indices = indices.astype(jnp.int32)
    known = jnp.concatenate([values, rest[..., None]], axis=-1).astype(jnp.float32)
    teacher = softened(known, temperature)
    logs = softened(student_logits, temperature)
    others = jnp.put_along_axis(logs, indices, -jnp.inf, axis=-1, inplace=False)
    mass = log_mass(others)[..., None]
    student = jnp.concatenate([jnp.take_along_axis(logs, indices, axis=-1), mass], axis=-1)
    return temperature**2 * divergence(teacher, student)


def dkd(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    labels: jax.Array,
    temperature: float | jax.Array,
    *,
    target_weight: float = 1.0,
    others_weight: float = 8.0,
) -> jax.Array:
    """Decoupled distillation: the target class and the others among themselves, weighted apart.

    ``T^2 * (target_weight * TCKD + others_weight * NCKD)``. TCKD is the KL divergence of (target,
    not target), NCKD that of the softmax over the other classes alone. `kd` is TCKD +
    (1 - teacher's probability of the target) * NCKD.

    Args:
        student_logits: `[batch, classes]`.
        teacher_logits: `[batch, classes]`.
        labels: `int[batch]`, the targets.
        temperature: T > 0.
        target_weight: α.
        others_weight: β.

    Returns:
        `float32[batch]`.

    Raises:
        ValueError: if the temperature is known and not finite and above 0.

    Source:
        Zhao et al., "Decoupled Knowledge Distillation", 2022, equation 7; the factor T^2 as in
        their code.

    Example:
        >>> logits, labels = jnp.array([[1.0, 2.0, 4.0]]), jnp.array([2])
        >>> dkd(logits, logits, labels, 4.0).tolist()
        [0.0]
    """
    require(target_weight=real(target_weight, least=0), others_weight=real(others_weight, least=0))
    student = softened(student_logits, temperature)
    teacher = softened(teacher_logits, temperature)
    is_target = jax.nn.one_hot(labels, student.shape[-1], dtype=bool)
    pair_s, others_s = _decouple(student, is_target)
    pair_t, others_t = _decouple(teacher, is_target)
    tckd = divergence(pair_t, pair_s)
    nckd = divergence(others_t, others_s)
    return temperature**2 * (target_weight * tckd + others_weight * nckd)


def _decouple(logs: jax.Array, is_target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Split log-probabilities into (target, others) and the others among themselves."""
    target = jnp.sum(jnp.where(is_target, logs, 0.0), axis=-1)
    others = jnp.where(is_target, -jnp.inf, logs)
    mass = log_mass(others)
    others = others - jnp.where(mass != -jnp.inf, mass, 0.0)[..., None]
    return jnp.stack([target, mass], axis=-1), others


def dist(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    temperature: float | jax.Array = 1.0,
    *,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
) -> jax.Array:
    """Distillation of relations: correlation with the teacher's answers instead of equality.

    ``inter_weight * mean_i (1 - ρ(s_i, t_i)) + intra_weight * mean_c (1 - ρ(s_:c, t_:c))`` with ρ
    Pearson's correlation, s and t the softmax at temperature T, rows i examples, columns c classes.

    Args:
        student_logits: `[batch, classes]`.
        teacher_logits: `[batch, classes]`.
        temperature: T > 0, finite. No factor T^2 is included (the authors' code has it).
        inter_weight: β.
        intra_weight: γ.

    Returns:
        `float32[]`: the second term ties the examples of a batch together.

    Raises:
        ValueError: if the temperature is known and not finite and above 0.

    Source:
        Huang et al., "Knowledge Distillation from A Stronger Teacher", 2022, equations 6 to 9.

    Example:
        >>> logits = jnp.array([[1.0, 2.0, 4.0], [3.0, 0.0, 1.0]])
        >>> abs(round(float(dist(logits, logits)), 5))
        0.0
    """
    require(inter_weight=real(inter_weight, least=0), intra_weight=real(intra_weight, least=0))
    student = jnp.exp(softened(student_logits, temperature))
    teacher = jnp.exp(softened(teacher_logits, temperature))
    inter = jnp.mean(1 - _pearson(student, teacher, axis=-1))
    intra = jnp.mean(1 - _pearson(student, teacher, axis=0))
    return inter_weight * inter + intra_weight * intra


def _pearson(a: jax.Array, b: jax.Array, axis: int) -> jax.Array:
    a, b = (x - x.mean(axis, keepdims=True) for x in (a, b))
    product = jnp.sum(a * a, axis) * jnp.sum(b * b, axis)
    # The bound keeps gradients finite where a class has one probability in all examples.
    return jnp.sum(a * b, axis) * jax.lax.rsqrt(jnp.maximum(product, 1e-20))
