"""Divergences agree with their definitions in float64, and with each other at their limits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.knowledge import jensen_shannon, kd, reverse_kl
from tests.knowledge.test_losses import STUDENT, TEACHER, excluded, log_softmax


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the divergence of probabilities, over the classes that the first has."""
    has = p > 0
    ratio = np.where(has, p, 1) / np.where(has, q, 1)
    return (p * np.log(ratio)).sum(-1)


def probabilities(logits: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(logits / 2.0))


@pytest.mark.parametrize("which", ["none", "teacher", "both"])
@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_jensen_shannon(beta: float, which: str) -> None:
    student, teacher = (STUDENT, TEACHER) if which == "none" else excluded(which)
    q, p = probabilities(student), probabilities(teacher)
    middle = beta * p + (1 - beta) * q
    desired = 4 * (beta * kl(p, middle) + (1 - beta) * kl(q, middle))
    losses = jensen_shannon(jnp.float32(student), jnp.float32(teacher), 2.0, beta=beta)
    np.testing.assert_allclose(losses, desired, rtol=2e-4, atol=1e-5)


def test_reverse_kl() -> None:
    desired = 4 * kl(probabilities(STUDENT), probabilities(TEACHER))
    logits = jnp.float32(STUDENT), jnp.float32(TEACHER)
    np.testing.assert_allclose(reverse_kl(*logits, 2.0), desired, rtol=2e-4)
    student, teacher = excluded("both")
    desired = 4 * kl(probabilities(student), probabilities(teacher))
    logits = jnp.float32(student), jnp.float32(teacher)
    np.testing.assert_allclose(reverse_kl(*logits, 2.0), desired, rtol=2e-4, atol=1e-6)
    slope = jax.grad(lambda s: reverse_kl(s, logits[1], 2.0).sum())(logits[0])
    assert np.isfinite(slope).all()
    # Rows 0 to 3 are those in which the teacher excludes something.
    alone = np.asarray(reverse_kl(jnp.float32(STUDENT), logits[1], 2.0))
    assert (alone[:4] == np.inf).all() and np.isfinite(alone[4:]).all()


def test_jensen_shannon_tends_to_both_divergences() -> None:
    logits, small = (jnp.float32(STUDENT), jnp.float32(TEACHER)), 1e-3
    forward = jensen_shannon(*logits, 2.0, beta=small) / small
    np.testing.assert_allclose(forward, kd(*logits, 2.0), rtol=0.05)
    backward = jensen_shannon(*logits, 2.0, beta=1 - small) / small
    np.testing.assert_allclose(backward, reverse_kl(*logits, 2.0), rtol=0.05)


@pytest.mark.parametrize("name", ["jensen_shannon", "reverse_kl"])
def test_nan_is_not_hidden(name: str) -> None:
    loss = {"jensen_shannon": jensen_shannon, "reverse_kl": reverse_kl}[name]
    for student, teacher in ((STUDENT * np.nan, TEACHER), (STUDENT, TEACHER * np.nan)):
        assert np.isnan(loss(jnp.float32(student), jnp.float32(teacher), 2.0)).all()


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.5])
def test_the_ends_are_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="beta must be .* above 0 and below 1"):
        jensen_shannon(jnp.zeros((1, 2)), jnp.zeros((1, 2)), 1.0, beta=beta)
