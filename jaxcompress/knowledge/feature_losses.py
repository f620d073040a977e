"""Losses over feature maps: pure functions of arrays.

Where student and teacher must have one width (`fitnets`), the caller maps the student's features
first. The others compare positions or examples and take any widths.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["attention_transfer", "fitnets", "pkt", "similarity"]

# Below this a norm counts as zero, so that no gradient is divided by it.
SMALLEST = 1e-12


def fitnets(student_features: jax.Array, teacher_features: jax.Array) -> jax.Array:
    """Hints: half the mean squared difference, ``||t - s||^2 / (2 * elements)``.

    Args:
        student_features: `[batch, ...]`, after the regressor that gives them the teacher's shape.
        teacher_features: `[batch, ...]`, of the same shape.

    Returns:
        `float32[batch]`.

    Raises:
        ValueError: if the shapes differ.

    Source:
        Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, equation 3, which sums over the
        elements; the mean keeps the size of the loss free of the resolution.

    Example:
        >>> fitnets(jnp.zeros((1, 2, 2, 3)), jnp.ones((1, 2, 2, 3))).tolist()
        [0.5]
    """
    if student_features.shape != teacher_features.shape:
        raise ValueError(
            "hints compare features of one shape, but the student's are "
            f"{student_features.shape} and the teacher's {teacher_features.shape}; map the "
            "student's first, e.g. by a 1x1 convolution"
        )
    difference = teacher_features.astype(jnp.float32) - student_features.astype(jnp.float32)
    return 0.5 * jnp.mean(jnp.square(_rows(difference)), axis=-1)


def attention_transfer(student_features: jax.Array, teacher_features: jax.Array) -> jax.Array:
    """Attention transfer: where both look, ``||Q_s / |Q_s| - Q_t / |Q_t|||^2``, Q = Σ_c |A_c|^2.

    Args:
        student_features: `[batch, height, width, channels]`.
        teacher_features: `[batch, height, width, any]`.

    Returns:
        `float32[batch]`.

    Source:
        Zagoruyko and Komodakis, "Paying More Attention to Attention", 2017, equation 2 with p = 2;
        squared as in their code, so that the gradient exists where the maps agree.

    Example:
        >>> features = jnp.ones((1, 2, 2, 3))
        >>> attention_transfer(features, 5 * features[..., :1]).tolist()
        [0.0]
    """
    maps = [
        _unit(_rows(jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1)))
        for x in (student_features, teacher_features)
    ]
    return jnp.sum(jnp.square(maps[0] - maps[1]), axis=-1)


def similarity(student_features: jax.Array, teacher_features: jax.Array) -> jax.Array:
    """Similarity preserving: which examples of a batch both find alike.

    ``||G_s - G_t||_F^2 / batch^2`` with G the rows of ``Q Q^T`` scaled to unit length and Q the
    features `[batch, all others]`.

    Args:
        student_features: `[batch, ...]`.
        teacher_features: `[batch, ...]`, of any other shape.

    Returns:
        `float32[]`.

    Source:
        Tung and Mori, "Similarity-Preserving Knowledge Distillation", 2019, equations 1 to 4.

    Example:
        >>> features = jnp.eye(3)
        >>> float(similarity(features, 2 * features))
        0.0
    """
    pair = (_rows(x.astype(jnp.float32)) for x in (student_features, teacher_features))
    student, teacher = (_unit(rows @ rows.T) for rows in pair)
    return jnp.mean(jnp.square(student - teacher))


def pkt(student_features: jax.Array, teacher_features: jax.Array) -> jax.Array:
    """Probabilistic knowledge transfer: the KL divergence of neighbourhoods, averaged.

    ``mean_i Σ_{j != i} p(j|i) log(p(j|i) / q(j|i))`` with p of the teacher, q of the student, both
    ``K(x_i, x_j) / Σ_{k != i} K(x_i, x_k)`` and ``K(a, b) = (cos(a, b) + 1) / 2``.

    Args:
        student_features: `[batch, ...]`, at least two examples.
        teacher_features: `[batch, ...]`, of any other shape.

    Returns:
        `float32[]`, in nats.

    Source:
        Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer",
        2018, equations 3 to 6 with the cosine kernel. Theirs sums over the examples.

    Example:
        >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> float(pkt(features, 3 * features))
        0.0
    """
    student, teacher = _neighbours(student_features), _neighbours(teacher_features)
    ratio = jnp.log(jnp.maximum(teacher, SMALLEST)) - jnp.log(jnp.maximum(student, SMALLEST))
    return jnp.mean(jnp.sum(teacher * ratio, axis=-1))


def _neighbours(features: jax.Array) -> jax.Array:
    """How likely each example picks each other one, `[batch, batch]`, zero on the diagonal."""
    rows = _unit(_rows(features.astype(jnp.float32)))
    kernel = (rows @ rows.T + 1) / 2 * (1 - jnp.eye(len(rows)))
    return kernel / jnp.maximum(jnp.sum(kernel, axis=-1, keepdims=True), SMALLEST)


def _rows(features: jax.Array) -> jax.Array:
    return features.reshape(features.shape[0], -1)


def _unit(rows: jax.Array) -> jax.Array:
    """Scale each row to unit length; a row of zeros stays."""
    square = jnp.sum(jnp.square(rows), axis=-1, keepdims=True)
    return rows * jax.lax.rsqrt(jnp.maximum(square, SMALLEST**2))
