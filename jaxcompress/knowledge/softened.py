"""Softened answers: log-probabilities at a temperature, and how far two of them are apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.arguments import real, require

__all__ = ["check_temperature", "divergence", "log_mass", "softened"]


def check_temperature(temperature: float | jax.Array) -> None:
    """Raise unless a temperature, or each of an array of them, is finite and above 0.

    Example:
        >>> check_temperature(4.0)
    """
    bounds = [temperature]
    if np.ndim(temperature) and not isinstance(temperature, jax.core.Tracer | list | tuple):
        bounds = [np.min(temperature), np.max(temperature)]
    require(temperature=real(bounds[0], above=0) or real(bounds[-1], above=0))


def softened(logits: jax.Array, temperature: float | jax.Array) -> jax.Array:
    """Return ``log softmax(logits / T)`` over the last axis, in float32.

    Raises:
        ValueError: if the temperature is known and not finite and above 0.

    Example:
        >>> softened(jnp.array([0.0, -jnp.inf]), 2.0).tolist()
        [0.0, -inf]
    """
    check_temperature(temperature)
    return jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)


def divergence(logs: jax.Array, others: jax.Array) -> jax.Array:
    """Return ``Σ p (log p - log q)`` of log-probabilities p, q over the classes that p has.

    It is +inf where q lacks one of these.

    Example:
        >>> float(divergence(jnp.log(jnp.array([1.0, 0.0])), jnp.log(jnp.array([0.5, 0.5]))))
        0.6931471824645996
    """
    has = jnp.exp(logs) != 0  # NaN stays NaN
    # Chosen before the arithmetic: the gradient of 0 * inf is NaN even where it is discarded.
    logs, others = jnp.where(has, logs, 0.0), jnp.where(has, others, 0.0)
    return jnp.sum(jnp.where(has, jnp.exp(logs), 0.0) * (logs - others), axis=-1)


def log_mass(logs: jax.Array) -> jax.Array:
    """Return ``logsumexp`` over the last axis, with gradient 0, not NaN, where all is excluded.

    Example:
        >>> float(log_mass(jnp.array([-jnp.inf, -jnp.inf])))
        -inf
    """
    has = jnp.any(logs != -jnp.inf, axis=-1)
    return jnp.where(has, jax.nn.logsumexp(jnp.where(has[..., None], logs, 0.0), axis=-1), -jnp.inf)
