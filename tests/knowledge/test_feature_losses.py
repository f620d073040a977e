"""Feature losses agree with their equations in float64, and their gradients are finite."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.annotations import Array
from jaxcompress.knowledge import attention_transfer, feature_losses, fitnets, pkt, similarity

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(2, 5, 3, 3, 4))
WIDE: Array = RNG.normal(size=(5, 3, 3, 7))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def rows(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)


def neighbours(x: np.ndarray) -> np.ndarray:
    kernel = (unit(rows(x)) @ unit(rows(x)).T + 1) / 2
    np.fill_diagonal(kernel, 0)
    return kernel / kernel.sum(1, keepdims=True)


def test_fitnets() -> None:
    desired = 0.5 * np.square(rows(TEACHER - STUDENT)).mean(-1)
    np.testing.assert_allclose(fitnets(STUDENT, TEACHER), desired, rtol=1e-5)
    with pytest.raises(ValueError, match="1x1 convolution"):
        fitnets(STUDENT, WIDE)


def test_attention_transfer() -> None:
    maps = [unit(rows(np.square(x).sum(-1))) for x in (STUDENT, WIDE)]
    desired = np.square(maps[0] - maps[1]).sum(-1)
    np.testing.assert_allclose(attention_transfer(STUDENT, WIDE), desired, rtol=1e-4)


def test_similarity() -> None:
    maps = [unit(rows(x) @ rows(x).T) for x in (STUDENT, WIDE)]
    desired = np.square(maps[0] - maps[1]).sum() / 25
    np.testing.assert_allclose(similarity(STUDENT, WIDE), desired, rtol=1e-4)


def test_pkt() -> None:
    p, q = neighbours(WIDE), neighbours(STUDENT)
    off = ~np.eye(5, dtype=bool)
    desired = (p[off] * np.log(p[off] / q[off])).sum() / 5
    np.testing.assert_allclose(pkt(STUDENT, WIDE), desired, rtol=1e-3)


# Losses of features, `(student, teacher) -> [batch]`.
LOSSES: dict[str, Callable[..., jax.Array]] = {
    "fitnets": fitnets,
    "attention_transfer": attention_transfer,
    "similarity": similarity,
    "pkt": pkt,
}


def test_every_loss_of_features_is_tried() -> None:
    assert set(feature_losses.__all__) == set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("student", [TEACHER, np.zeros_like(TEACHER)], ids=["equal", "zero"])
def test_gradients_are_finite(name: str, student: np.ndarray) -> None:
    loss = lambda x: LOSSES[name](x, jnp.float32(TEACHER)).sum()  # noqa: E731
    gradient = jax.grad(loss)(jnp.float32(student))
    assert np.isfinite(gradient).all()
