"""Losses agree with their definitions in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.annotations import Array, Function
from jaxcompress.knowledge import (
    cross_entropy,
    dist,
    divergences,
    dkd,
    jensen_shannon,
    kd,
    kd_top_k,
    losses,
)

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(2, 6, 5)) * 3


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_kd_is_the_scaled_divergence(temperature: float) -> None:
    teacher, student = log_softmax(TEACHER / temperature), log_softmax(STUDENT / temperature)
    desired = temperature**2 * (np.exp(teacher) * (teacher - student)).sum(-1)
    losses = kd(jnp.float32(STUDENT), jnp.float32(TEACHER), temperature)
    np.testing.assert_allclose(losses, desired, rtol=2e-4, atol=1e-5)
    assert (np.asarray(losses) > 0).all()


def test_kd_gradients_keep_their_size_at_high_temperature() -> None:
    """For T far above the logits the gradient tends to that of half the squared difference."""
    teacher, student = (x - x.mean(-1, keepdims=True) for x in (TEACHER, STUDENT))
    gradient = jax.grad(lambda x: kd(x, jnp.float32(teacher), 100.0).sum())(jnp.float32(student))
    np.testing.assert_allclose(gradient, (student - teacher) / 5, atol=0.05)


def test_cross_entropy() -> None:
    labels: Array = np.arange(6) % 5
    desired = -log_softmax(STUDENT)[np.arange(6), labels]
    np.testing.assert_allclose(cross_entropy(jnp.float32(STUDENT), labels), desired, rtol=1e-5)
    assert cross_entropy(jnp.bfloat16(STUDENT), labels).dtype == jnp.float32


def top_k(logits: np.ndarray, k: int, temperature: float) -> tuple[np.ndarray, ...]:
    order = np.argsort(-logits, axis=-1)
    indices, others = order[:, :k], order[:, k:]
    left = np.take_along_axis(logits, others, -1) / temperature
    with np.errstate(divide="ignore"):  # nothing may be left
        rest = temperature * np.log(np.exp(left).sum(-1))
    return np.take_along_axis(logits, indices, -1), indices, rest


@pytest.mark.parametrize("k", [1, 3, 4])
def test_top_k_takes_the_remaining_mass_as_one_class(k: int) -> None:
    temperature = 2.0
    values, indices, rest = top_k(TEACHER, k, temperature)
    p, q = (np.exp(log_softmax(x / temperature)) for x in (TEACHER, STUDENT))
    merged = []
    for x in (p, q):
        top = np.take_along_axis(x, indices, -1)
        merged.append(np.concatenate([top, 1 - top.sum(-1, keepdims=True)], -1))
    desired = temperature**2 * (merged[0] * np.log(merged[0] / merged[1])).sum(-1)
    arguments = (jnp.float32(values), jnp.asarray(indices, jnp.uint16), jnp.float32(rest))
    losses = kd_top_k(jnp.float32(STUDENT), *arguments, temperature)
    np.testing.assert_allclose(losses, desired, rtol=1e-3, atol=1e-5)
    whole = kd(jnp.float32(STUDENT), jnp.float32(TEACHER), temperature)
    if k == 4:  # only one class is left out
        np.testing.assert_allclose(losses, whole, rtol=1e-3, atol=1e-5)
    else:
        assert (np.asarray(losses) <= np.asarray(whole) + 1e-5).all()
    gradient = jax.grad(lambda x: kd_top_k(x, *arguments, temperature).sum())(jnp.float32(STUDENT))
    assert np.isfinite(gradient).all()


def test_top_k_has_no_bias_towards_the_kept_classes() -> None:
    """A student that agrees with the whole teacher has no gradient; renormalising would have."""
    values, indices, rest = map(jnp.asarray, top_k(TEACHER, 2, 1.0))
    gradient = jax.grad(lambda x: kd_top_k(x, values, indices, rest, 1.0).sum())(
        jnp.float32(TEACHER)
    )
    np.testing.assert_allclose(gradient, 0, atol=1e-5)


def test_dkd_is_the_weighted_sum_of_its_parts() -> None:
    labels: Array = np.arange(6) % 5
    temperature = 4.0
    p, q = (np.exp(log_softmax(x / temperature)) for x in (TEACHER, STUDENT))
    rows = np.arange(6)
    pt, qt = p[rows, labels], q[rows, labels]
    tckd = pt * np.log(pt / qt) + (1 - pt) * np.log((1 - pt) / (1 - qt))
    off = ~np.eye(5, dtype=bool)[labels]
    p_other, q_other = (x[off].reshape(6, 4) for x in (p, q))
    p_other, q_other = (x / x.sum(-1, keepdims=True) for x in (p_other, q_other))
    nckd = (p_other * np.log(p_other / q_other)).sum(-1)
    arguments = (jnp.float32(STUDENT), jnp.float32(TEACHER), labels, temperature)
    losses = dkd(*arguments, target_weight=2.0, others_weight=8.0)
    np.testing.assert_allclose(losses, 16 * (2 * tckd + 8 * nckd), rtol=2e-3)
    desired = 16 * (tckd + (1 - pt) * nckd)
    np.testing.assert_allclose(kd(*arguments[:2], temperature), desired, rtol=2e-3)


def test_dist_is_one_minus_the_correlations() -> None:
    t, s = (np.exp(log_softmax(x / 2.0)) for x in (TEACHER, STUDENT))
    inter = np.mean([1 - np.corrcoef(s[i], t[i])[0, 1] for i in range(6)])
    intra = np.mean([1 - np.corrcoef(s[:, c], t[:, c])[0, 1] for c in range(5)])
    losses = dist(
        jnp.float32(STUDENT), jnp.float32(TEACHER), 2.0, inter_weight=2.0, intra_weight=3.0
    )
    np.testing.assert_allclose(losses, 2 * inter + 3 * intra, rtol=1e-4)


def kd_of_three(student: Array, teacher: Array, temperature: float) -> Array:
    """Compare with the three largest logits of the teacher, stored at temperature 2."""
    values, classes, rest = map(jnp.asarray, top_k(np.asarray(teacher), 3, 2.0))
    return kd_top_k(student, values, classes, rest, temperature)


# Losses of logits, `(student, teacher, temperature) -> [batch]`.
LOSSES: dict[str, Function] = {
    "kd": kd,
    "dkd": lambda s, t, temperature: dkd(s, t, jnp.arange(6) % 5, temperature),
    "kd_top_k": kd_of_three,
    "dist": dist,
    "jensen_shannon": jensen_shannon,
}
# Losses of logits that the laws of `LOSSES` do not fit, and why.
OTHERS = {
    "cross_entropy": "of labels, without a teacher or temperature",
    "reverse_kl": "infinite where the teacher excludes what the student has",
}


def test_every_loss_of_logits_is_tried_or_says_why_not() -> None:
    assert {*losses.__all__, *divergences.__all__} == {*LOSSES, *OTHERS}


def excluded(which: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits of student and teacher, where the latter, or both, exclude some classes of each row.

    In row 0 three, so that of the three largest one is excluded and nothing but is left out; in
    row 1 all but the label; in row 2 the label itself.
    """
    mask = np.eye(6, 5, k=1, dtype=bool)
    mask[0, 1:4], mask[1], mask[2] = True, np.arange(5) != 1, np.arange(5) == 2
    student, teacher = (np.where(mask, -np.inf, x) for x in (STUDENT, TEACHER))
    return (student if which == "both" else STUDENT), teacher


@pytest.mark.parametrize("which", ["teacher", "both"])
def test_kd_runs_over_the_classes_that_the_teacher_has(which: str) -> None:
    student, teacher = excluded(which)
    desired = []
    for s, t in zip(student / 2, teacher / 2, strict=True):
        q, has = np.exp(log_softmax(s)), t > -np.inf
        p = np.exp(log_softmax(t[has]))
        desired.append(4 * (p * np.log(p / q[has])).sum())
    losses = kd(jnp.float32(student), jnp.float32(teacher), 2.0)
    np.testing.assert_allclose(losses, desired, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("which", ["teacher", "both"])
@pytest.mark.parametrize("name", LOSSES)
def test_excluded_classes_are_the_limit_of_small_logits(name: str, which: str) -> None:
    student, teacher = (jnp.float32(x) for x in excluded(which))
    loss = LOSSES[name]
    losses = loss(student, teacher, 2.0)
    limit = loss(jnp.maximum(student, -1e4), jnp.maximum(teacher, -1e4), 2.0)
    # Where the teacher has nothing but the target, the others among themselves have no limit.
    rows = slice(None) if name != "dkd" else np.array([0, 2, 3, 4, 5])
    np.testing.assert_allclose(np.atleast_1d(losses)[rows], np.atleast_1d(limit)[rows], rtol=1e-4)
    for side in (0, 1) if name != "kd_top_k" else (0,):
        slope = jax.grad(lambda *logits: loss(*logits, 2.0).sum(), argnums=side)(student, teacher)
        assert np.isfinite(slope).all()


def test_dkd_of_a_teacher_that_has_the_target_alone_is_kd() -> None:
    student, teacher = (jnp.float32(x) for x in excluded("teacher"))
    decoupled, whole = (LOSSES[name](student, teacher, 2.0)[1] for name in ("dkd", "kd"))
    np.testing.assert_allclose(decoupled, whole, rtol=1e-5)


def test_a_class_that_the_student_alone_excludes_costs_infinity() -> None:
    student = jnp.float32(STUDENT).at[:, 0].set(-jnp.inf)
    for name in ("kd", "dkd"):
        assert (LOSSES[name](student, jnp.float32(TEACHER), 2.0) == jnp.inf).all()


@pytest.mark.parametrize("name", ["kd", "dkd"])
def test_nan_is_not_hidden(name: str) -> None:
    for student, teacher in ((STUDENT * np.nan, TEACHER), (STUDENT, TEACHER * np.nan)):
        assert np.isnan(LOSSES[name](jnp.float32(student), jnp.float32(teacher), 2.0)).all()


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), np.float32(0)])
@pytest.mark.parametrize("name", LOSSES)
def test_wrong_temperatures_are_refused(name: str, temperature: float) -> None:
    arguments = jnp.float32(STUDENT), jnp.float32(TEACHER)
    with pytest.raises(ValueError, match="temperature must be .*finite number.* above 0, but is"):
        LOSSES[name](*arguments, temperature)
    traced = jax.jit(lambda value: LOSSES[name](*arguments, value))(jnp.float32(2.0))
    np.testing.assert_allclose(traced, LOSSES[name](*arguments, 2.0), rtol=1e-4, atol=1e-6)
