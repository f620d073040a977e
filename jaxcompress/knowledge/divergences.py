"""Divergences between student and teacher that weigh their differences otherwise than `kd`.

`kd` runs over what the teacher finds likely: a student too small to say all of it spreads its
answers over everything. Reverse, it runs over what the student finds likely, who then says one
thing well; generalised Jensen-Shannon lies between the two and is finite whatever is excluded.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxcompress.arguments import real, require
from jaxcompress.knowledge.losses import kd
from jaxcompress.knowledge.softened import divergence, softened

__all__ = ["jensen_shannon", "reverse_kl"]


def reverse_kl(
    student_logits: jax.Array, teacher_logits: jax.Array, temperature: float | jax.Array
) -> jax.Array:
    """Reverse divergence, ``T^2 * KL(softmax(student / T) || softmax(teacher / T))``, in nats.

    Args:
        student_logits: `[..., classes]`.
        teacher_logits: `[..., classes]`.
        temperature: T > 0, finite.

    Returns:
        `float32[...]`; +inf where the teacher excludes a class (-inf) that the student does not.

    Raises:
        ValueError: if the temperature is known and not finite and above 0.

    Source:
        Gu et al., "MiniLLM: Knowledge Distillation of Large Language Models", 2024, equation 1, of
        each token alone; the factor T^2 as in `kd`.

    Example:
        >>> student, teacher = jnp.log(jnp.array([[1.0, 1.0]])), jnp.log(jnp.array([[3.0, 1.0]]))
        >>> round(float(reverse_kl(student, teacher, 1.0)[0]), 4)  # log(4 / 3) / 2
        0.1438
    """
    return kd(teacher_logits, student_logits, temperature)


def jensen_shannon(
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    temperature: float | jax.Array,
    *,
    beta: float = 0.5,
) -> jax.Array:
    """Generalised Jensen-Shannon divergence: both compared with what lies between them.

    ``T^2 * (β KL(p || m) + (1 - β) KL(q || m))`` with p the teacher's and q the student's softmax
    at T and ``m = β p + (1 - β) q``, in nats. Over β it tends to `kd` for β -> 0, over 1 - β to
    `reverse_kl` for β -> 1.

    Args:
        student_logits: `[..., classes]`.
        teacher_logits: `[..., classes]`; no gradient is stopped.
        temperature: T > 0, finite.
        beta: β in (0, 1).

    Returns:
        `float32[...]`, at most ``T^2 log 2`` for β = 1/2, finite whatever either side excludes.

    Raises:
        ValueError: if β is not inside (0, 1), or the temperature is known and not finite and above
            0.

    Source:
        Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated
        Mistakes" (GKD), 2023 (arXiv:2306.13649), D_JSD(β) of section 2; the factor T^2 as in `kd`.

    Example:
        >>> logits = jnp.array([[0.0, -jnp.inf], [2.0, 2.0]])
        >>> jensen_shannon(logits, logits[:, ::-1], 1.0).round(4).tolist()  # log 2, and nothing
        [0.6930999755859375, 0.0]
    """
    require(beta=real(beta, above=0, below=1))
    student, teacher = softened(student_logits, temperature), softened(teacher_logits, temperature)
    middle = _mixture(teacher, student, beta)
    from_teacher, from_student = divergence(teacher, middle), divergence(student, middle)
    return temperature**2 * (beta * from_teacher + (1 - beta) * from_student)


def _mixture(teacher: jax.Array, student: jax.Array, beta: float) -> jax.Array:
    """Return ``log(β p + (1 - β) q)``; 0 where neither has the class, which nothing reads."""
    has = (jnp.exp(teacher) != 0) | (jnp.exp(student) != 0)
    # Chosen before the arithmetic: the gradient of -inf - -inf is NaN.
    teacher, student = jnp.where(has, teacher, 0.0), jnp.where(has, student, 0.0)
    return jnp.logaddexp(teacher + jnp.log(beta), student + jnp.log1p(-beta))
