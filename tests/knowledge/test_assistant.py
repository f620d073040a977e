"""The assistant, the bank of interim networks, and the measure of collapse."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.annotations import Array
from jaxcompress.knowledge import (
    assistant_logits,
    assistant_losses,
    bank_target,
    blend,
    ensemble,
    init_assistant,
    interim_networks,
    kd,
    spread,
)

RNG = np.random.default_rng(0)
TEACHER, STUDENT = jnp.asarray(RNG.normal(size=(2, 6, 5)), jnp.float32)
FEATURES, VIEW = jnp.float32(RNG.normal(size=(6, 2, 2, 3))), jnp.float32(RNG.normal(size=(6, 8)))
LABELS = jnp.arange(6) % 5
PARAMS = init_assistant(jax.random.key(0), classes=5, knowledge=12, view=8, width=16)


def test_a_fresh_assistant_repeats_the_teacher() -> None:
    np.testing.assert_array_equal(assistant_logits(PARAMS, TEACHER, VIEW, FEATURES), TEACHER)


def test_a_trained_assistant_depends_on_the_view_and_the_knowledge() -> None:
    def loss(params: dict[str, jax.Array]) -> jax.Array:
        answer = assistant_logits(params, TEACHER, VIEW, FEATURES)
        return assistant_losses(answer, STUDENT, TEACHER, LABELS, 4.0).assistant.mean()

    params, before = PARAMS, loss(PARAMS)
    step = jax.jit(lambda p: jax.tree.map(lambda leaf, g: leaf - 0.3 * g, p, jax.grad(loss)(p)))
    for _ in range(30):
        params = step(params)
    assert loss(params) < before
    answer = assistant_logits(params, TEACHER, VIEW, FEATURES)
    assert not np.allclose(answer, assistant_logits(params, TEACHER, VIEW[::-1], FEATURES))
    assert not np.allclose(answer, assistant_logits(params, TEACHER, VIEW, FEATURES[::-1]))


def test_each_loss_reaches_one_of_the_two_only() -> None:
    def losses(part: str, params: dict[str, jax.Array], student: jax.Array) -> jax.Array:
        answer = assistant_logits(params, TEACHER, student, FEATURES[:, :1, :1, :])
        return getattr(assistant_losses(answer, student, TEACHER, LABELS, 4.0), part).sum()

    params = init_assistant(jax.random.key(0), classes=5, knowledge=3, view=5)
    params["out"] = jnp.ones_like(params["out"]) * jnp.arange(5)
    of_assistant = jax.grad(losses, argnums=(1, 2))("assistant", params, STUDENT)
    of_student = jax.grad(losses, argnums=(1, 2))("student", params, STUDENT)
    assert np.all(of_assistant[1] == 0) and np.any(of_assistant[0]["out"] != 0)
    assert np.any(of_student[1] != 0)
    assert all(np.all(leaf == 0) for leaf in of_student[0].values())


def test_blend_reaches_from_the_student_to_the_teacher() -> None:
    np.testing.assert_allclose(blend(TEACHER, STUDENT, 1.0), TEACHER)
    np.testing.assert_allclose(blend(TEACHER, STUDENT, 0.0), STUDENT)
    gradient = jax.grad(lambda s: blend(TEACHER, s, 0.3).sum())(STUDENT)
    np.testing.assert_array_equal(gradient, 0)


def test_interim_networks_are_evenly_spaced_in_loss() -> None:
    losses = [0.0, 0.1, 0.5, 0.8, 0.85, 1.0]
    assert interim_networks(losses, 5) == [3, 2, 2, 1, 0]
    with pytest.raises(ValueError, match="count must be .* at least 1, but is 0"):
        interim_networks(losses, 0)


def test_the_bank_teaches_by_the_members_ahead_of_the_student() -> None:
    bank: Array = np.asarray(jnp.stack([3 * STUDENT, TEACHER * 0.9, TEACHER], axis=1))
    distance = [float(kd(bank[:, k], TEACHER, 4.0).sum()) for k in range(3)]
    limit = float(kd(STUDENT, TEACHER, 4.0).sum())
    assert distance[0] > limit > distance[1]
    target = bank_target(jnp.asarray(bank), STUDENT, 4.0)
    np.testing.assert_allclose(target, bank[:, 1:].mean(1), rtol=1e-5)
    only_best = bank_target(jnp.asarray(bank), TEACHER, 4.0)
    np.testing.assert_allclose(only_best, TEACHER, rtol=1e-6)
    np.testing.assert_allclose(ensemble(jnp.moveaxis(jnp.asarray(bank), 1, 0)), bank.mean(1), 1e-5)


def test_spread_tells_views_from_images() -> None:
    logits = RNG.normal(size=(4, 7, 5))
    centred = logits - logits.mean(-1, keepdims=True)
    measured = spread(jnp.float32(logits))
    np.testing.assert_allclose(measured.views, centred.var(0).mean(), rtol=1e-4)
    np.testing.assert_allclose(measured.images, centred.mean(0).var(0).mean(), rtol=1e-4)
    collapsed = spread(jnp.broadcast_to(jnp.float32(logits[:1]), logits.shape))
    assert float(collapsed.views) < 1e-12 and float(collapsed.ratio) < 1e-12
    shifted = spread(jnp.float32(logits + RNG.normal(size=(4, 7, 1))))
    np.testing.assert_allclose(shifted.views, measured.views, rtol=1e-4)
    np.testing.assert_allclose(spread(jnp.float32(3 * logits)).ratio, measured.ratio, rtol=1e-4)
