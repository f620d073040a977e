"""The memory bank of interim sub-networks: the knowledge that EKG distils, as a baseline.

While a network is pruned step by step, K of the interim networks are kept as teachers; their logits
are computed once. A student learns from the mean of those that it does not yet surpass.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.arguments import integer, real, require
from jaxcompress.knowledge.losses import kd

__all__ = ["bank_target", "ensemble", "interim_networks"]


def interim_networks(losses: Sequence[float], count: int) -> list[int]:
    """Choose `count` interim networks of evenly spaced loss, from the last towards the first.

    ``argmin_i |(K - k)/K * L_last + k/K * L_first - L_i|`` for k = 1..K. The last entry of the
    result is the first network, which no pruning harmed.

    Args:
        losses: of the interim networks in the order of pruning, the unpruned one first.
        count: K, at least 1.

    Returns:
        K positions in `losses`; one may occur twice.

    Raises:
        ValueError: if there are no losses, or `count` is below 1.

    Source:
        Lee and Song, "Ensemble Knowledge Guided Sub-network Search and Fine-Tuning for Filter
        Pruning" (EKG), ECCV 2022, Algorithm 1.

    Example:
        >>> interim_networks([1.0, 1.1, 1.5, 2.0], count=2)
        [2, 0]
    """
    require(count=integer(count))
    if not len(losses) or count < 1:
        raise ValueError(
            f"a bank holds at least one of at least one network, but count={count} of "
            f"{len(losses)}; record the loss of every interim network"
        )
    values = np.asarray(losses, np.float64)
    levels = [((count - k) * values[-1] + k * values[0]) / count for k in range(1, count + 1)]
    return [int(np.argmin(np.abs(level - values))) for level in levels]


def ensemble(logits: jax.Array) -> jax.Array:
    """Average the logits of interim networks, ``1/(i + 1) Σ_j z_j``.

    Args:
        logits: `[networks, batch, classes]`.

    Source:
        EKG, the ensemble teacher T_i of Algorithm 1 (mean logits, not probabilities).

    Example:
        >>> ensemble(jnp.array([[[0.0, 2.0]], [[2.0, 0.0]]])).tolist()
        [[1.0, 1.0]]
    """
    return jnp.mean(logits.astype(jnp.float32), axis=0)


def bank_target(bank: jax.Array, student_logits: jax.Array, temperature: float) -> jax.Array:
    """Average those members of the bank that are nearer to the best one than the student is.

    A member k counts if ``Σ_batch kd(M_k, M_best) < Σ_batch kd(student, M_best)``; the best one
    always does.

    Args:
        bank: `[batch, members, classes]`, logits on the images without augmentation, the best
            network last (as `interim_networks` orders them).
        student_logits: `[batch, classes]`, averaged over views where there are several.
        temperature: T > 0 of the comparison.

    Returns:
        `float32[batch, classes]`, without gradient.

    Source:
        EKG's published code (function `KD` of its fine-tuning); its equation compares losses on
        labels instead, ``E{M_k | L(M_k) <= L(student)}``.

    Example:
        >>> bank = jnp.array([[[0.0, 9.0], [3.0, 0.0]]])
        >>> bank_target(bank, jnp.array([[2.0, 0.0]]), 4.0).tolist()
        [[3.0, 0.0]]
    """
    require(temperature=real(temperature, above=0))
    bank = jax.lax.stop_gradient(bank.astype(jnp.float32))
    best = bank[:, -1]
    limit = jnp.sum(kd(jax.lax.stop_gradient(student_logits), best, temperature))
    distance = jax.vmap(lambda member: jnp.sum(kd(member, best, temperature)), in_axes=1)(bank)
    counts = (distance < limit).at[-1].set(True).astype(jnp.float32)
    return jnp.einsum("bkc,k->bc", bank, counts / counts.sum())
