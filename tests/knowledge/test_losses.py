"""Losses agree with their definitions in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.knowledge import cross_entropy, kd

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(2, 6, 5)) * 3


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_kd_is_the_scaled_divergence(temperature: float) -> None:
    teacher, student = log_softmax(TEACHER / temperature), log_softmax(STUDENT / temperature)
    desired = temperature**2 * (np.exp(teacher) * (teacher - student)).sum(-1)
    found = kd(jnp.float32(STUDENT), jnp.float32(TEACHER), temperature)
    np.testing.assert_allclose(found, desired, rtol=2e-4, atol=1e-5)
    assert (np.asarray(found) > 0).all()


def test_kd_gradients_keep_their_size_at_high_temperature() -> None:
    """For T far above the logits the gradient tends to that of half the squared difference."""
    teacher, student = (x - x.mean(-1, keepdims=True) for x in (TEACHER, STUDENT))
    gradient = jax.grad(lambda x: kd(x, jnp.float32(teacher), 100.0).sum())(jnp.float32(student))
    np.testing.assert_allclose(gradient, (student - teacher) / 5, atol=0.05)


def test_cross_entropy() -> None:
    labels = np.arange(6) % 5
    desired = -log_softmax(STUDENT)[np.arange(6), labels]
    np.testing.assert_allclose(cross_entropy(jnp.float32(STUDENT), labels), desired, rtol=1e-5)
    assert cross_entropy(jnp.bfloat16(STUDENT), labels).dtype == jnp.float32
