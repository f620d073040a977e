"""What stands at padding changes neither losses nor their gradients."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.annotations import Array, Function
from jaxcompress.knowledge import (
    hidden_states,
    init_projection,
    jensen_shannon,
    kd,
    kd_top_k,
    length_mask,
    masked_mean,
    reverse_kl,
    without_padding,
)

RNG = np.random.default_rng(3)
STUDENT, TEACHER = RNG.normal(size=(2, 4, 6, 5)).astype(np.float32)
LENGTHS = [6, 0, 2, 5]
MASK = np.asarray(length_mask(LENGTHS, 6))
PROJECTION = init_projection(jax.random.key(0), student=5, teacher=5)


def top_k_of(logits: Array) -> tuple[Array, Array, Array]:
    """Return the largest logits, their classes, and what the others add up to at 2."""
    values, indices = jax.lax.top_k(logits, 3)
    others = jnp.put_along_axis(logits, indices, -jnp.inf, axis=-1, inplace=False)
    return values, indices, 2 * jax.nn.logsumexp(others / 2, axis=-1)


LOSSES: dict[str, Function] = {
    "kd": lambda s, t: kd(s, t, 2.0),
    "kd_top_k": lambda s, t: kd_top_k(s, *top_k_of(t), 2.0),
    "reverse_kl": lambda s, t: reverse_kl(s, t, 2.0),
    "jensen_shannon": lambda s, t: jensen_shannon(s, t, 2.0),
    "hidden_states": lambda s, t: hidden_states(s, t, PROJECTION),
}


def masked(loss: Function, student: Array, teacher: Array) -> jax.Array:
    return masked_mean(loss(*without_padding((student, teacher), MASK)), MASK)


def with_padding(x: np.ndarray, content: float) -> np.ndarray:
    return np.where(MASK[..., None], x, np.float32(content))


@pytest.mark.parametrize("name", LOSSES)
def test_padding_changes_neither_loss_nor_gradient(name: str) -> None:
    loss = LOSSES[name]
    slope = jax.value_and_grad(lambda s, t: masked(loss, s, t).sum())
    value, gradient = slope(STUDENT, TEACHER)
    assert np.isfinite(gradient).all() and np.abs(gradient[MASK]).max() > 1e-3
    assert not gradient[~MASK].any()
    for content in (7.0, np.nan, -np.inf, np.inf):
        other = slope(with_padding(STUDENT, content), with_padding(TEACHER, -content))
        np.testing.assert_array_equal(other[0], value)
        np.testing.assert_array_equal(other[1], gradient)


@pytest.mark.parametrize("name", LOSSES)
def test_the_mean_is_that_of_the_sequences_cut_short(name: str) -> None:
    means = masked(LOSSES[name], STUDENT, TEACHER)
    for row, length in enumerate(LENGTHS):
        each = LOSSES[name](STUDENT[row : row + 1], TEACHER[row : row + 1])[0, :length]
        np.testing.assert_allclose(means[row], each.mean() if length else 0, rtol=1e-5)


def test_means_by_hand() -> None:
    values = jnp.array([[1.0, 3.0, jnp.nan], [jnp.inf, -jnp.inf, jnp.nan], [6.0, 0.0, 3.0]])
    mask = jnp.array([[1, 1, 0], [0, 0, 0], [1, 1, 1]])
    assert masked_mean(values, mask).tolist() == [2, 0, 3]
    gradient = jax.grad(lambda x: masked_mean(x, mask).sum())(values)
    desired = np.array([[0.5, 0.5, 0], [0, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(gradient, desired, rtol=1e-6)
    assert masked_mean(values.astype(jnp.bfloat16), mask).dtype == jnp.float32


def test_what_has_no_positions_stays() -> None:
    tree = {"tokens": jnp.ones((2, 3, 4), jnp.int32), "pooled": jnp.full((2, 3), jnp.nan)}
    kept = without_padding(tree, np.array([[1, 0, 1], [0, 0, 0]]))
    assert kept["tokens"].dtype == jnp.int32
    assert kept["tokens"][..., 0].tolist() == [[1, 0, 1], [0, 0, 0]]
    assert np.isnan(kept["pooled"]).all()


REFUSED: dict[str, tuple[Function, str]] = {
    "longer": (lambda: length_mask([2, 7, 3], 6), r"0 to 6 tokens.*examples \[1\] .*have \[7\]"),
    "negative": (lambda: length_mask([-1], 6), r"have \[-1\]"),
    "halves": (lambda: length_mask([0.5], 6), r"int\[batch\], but are float64\[1\]"),
    "mean": (lambda: masked_mean(STUDENT[..., 0], MASK[:, :3]), r"\[4, 6\] and the mask \[4, 3\]"),
    "positions": (
        lambda: without_padding({"a": STUDENT, "b": STUDENT[:, :3]}, MASK),
        r"it is \[4, 6\] and the arrays are {'b': \(4, 3, 5\)}",
    ),
    "none": (lambda: without_padding(STUDENT[..., 0], MASK), "arrays are {'': "),
    "widths": (lambda: hidden_states(STUDENT, TEACHER[..., :3], PROJECTION), "init_projection"),
    "one width": (lambda: hidden_states(STUDENT, TEACHER[..., :3]), "the projection None"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_shapes_are_refused(name: str) -> None:
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        call()


def test_traced_lengths_pass() -> None:
    mask: Any = jax.jit(lambda lengths: length_mask(lengths, 6))(jnp.array(LENGTHS))
    np.testing.assert_array_equal(mask, MASK)


def test_hidden_states_by_hand() -> None:
    student, teacher = jnp.array([[[1.0, 2.0]]]), jnp.array([[[1.0, 2.0, 3.0]]])
    projection = jnp.array([[1.0, 0.0, 0.0], [0.0, 2.0, 1.0]])  # gives 1, 4, 2
    assert hidden_states(student, teacher, projection).tolist() == [[pytest.approx(5 / 3)]]
    assert hidden_states(teacher, teacher).tolist() == [[0.0]]
    slope = jax.grad(lambda w: hidden_states(student, teacher, w).sum())(projection)
    np.testing.assert_allclose(slope, np.outer([1, 2], [0, 2, -1]) * 2 / 3, rtol=1e-6)
