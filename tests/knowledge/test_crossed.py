"""The crossed assistant, and restyled maps: targets that depend on the view."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.knowledge import (
    alternate_views,
    assistant_logits,
    crossed_targets,
    init_assistant,
    kd,
    restyle,
    style,
)

RNG = np.random.default_rng(0)
EXAMPLES, CLASSES = 64, 5
IMAGE = jnp.float32(RNG.normal(size=(EXAMPLES, 1, 6)))
CHANGE = jnp.float32(RNG.normal(size=(EXAMPLES, 3, 4)))
"""What each of three views changes, which the student's features of the view show."""
MIX = jnp.float32(RNG.normal(size=(4, CLASSES)))
LOGITS = IMAGE[..., :CLASSES] + CHANGE @ MIX
FRESH = init_assistant(jax.random.key(0), classes=CLASSES, knowledge=6, view=4, width=64)
PARAMS = {**FRESH, "out": 0.1 * jnp.float32(RNG.normal(size=FRESH["out"].shape))}


def targets(params: dict[str, jax.Array], view: int, stored: int = 2) -> tuple[jax.Array, ...]:
    known = jnp.broadcast_to(IMAGE, (EXAMPLES, stored, 6))
    views = jnp.full(EXAMPLES, view)
    return crossed_targets(params, LOGITS[:, :stored], CHANGE[:, view], known, views, 2.0)


def test_a_stored_view_is_taught_by_the_teacher_and_teaches_the_assistant() -> None:
    for view in range(2):
        target, loss = targets(PARAMS, view)
        np.testing.assert_array_equal(target, LOGITS[:, view])
        answer = assistant_logits(PARAMS, LOGITS[:, 1 - view], CHANGE[:, view], IMAGE[:, 0])
        np.testing.assert_allclose(loss, kd(answer, LOGITS[:, view], 2.0), rtol=1e-5)


def test_another_view_is_taught_by_the_assistant_and_teaches_it_nothing() -> None:
    target, loss = targets(PARAMS, 2)
    answer = assistant_logits(PARAMS, LOGITS[:, 0], CHANGE[:, 2], IMAGE[:, 0])
    np.testing.assert_allclose(target, answer, rtol=1e-6)
    assert np.all(loss == 0)
    gradient = jax.grad(lambda params: targets(params, 2)[0].sum())(PARAMS)
    assert all(np.all(leaf == 0) for leaf in gradient.values())


def test_the_assistant_learns_to_answer_for_views_that_nobody_stored() -> None:
    def loss(params: dict[str, jax.Array]) -> jax.Array:
        return sum((targets(params, view)[1].mean() for view in range(2)), jnp.float32(0))

    step = jax.jit(lambda p: jax.tree.map(lambda leaf, g: leaf - 0.05 * g, p, jax.grad(loss)(p)))
    params = PARAMS
    for _ in range(300):
        params = step(params)

    def error(params: dict[str, jax.Array]) -> float:
        return float(kd(targets(params, 2)[0], LOGITS[:, 2], 2.0).mean())

    fixed = float(kd(LOGITS[:, 0], LOGITS[:, 2], 2.0).mean())
    assert error(params) < 0.5 * fixed < error(PARAMS)


def test_one_stored_view_is_refused() -> None:
    with pytest.raises(ValueError, match="has 1 view; store at least two"):
        targets(PARAMS, 0, stored=1)


def test_every_example_meets_stored_and_new_views_in_turn() -> None:
    epochs: list[Any] = list(range(8))
    shown = np.stack([alternate_views(jnp.arange(6), e, stored=2) for e in epochs])
    assert (shown < 2).mean() == 0.5 and set(shown[shown < 2]) == {0, 1}
    for example in shown.T:
        assert np.all((example < 2)[::2] != (example < 2)[1::2])
        new = example[example >= 2]
        assert len(set(new)) == len(new) == 4


def test_a_restyled_map_has_the_statistics_and_its_own_pattern() -> None:
    features, other = (jnp.float32(RNG.gamma(2, size=(3, 4, 4, 2))) for _ in range(2))
    restyled = restyle(features, style(other))
    for a, b in zip(style(restyled), style(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3)
    maps = [np.asarray(x).reshape(3, 16, 2)[0, :, 0] for x in (restyled, features)]
    assert np.corrcoef(maps)[0, 1] == pytest.approx(1, abs=1e-4)
    flat = restyle(jnp.zeros((1, 2, 2, 1)), style(other[:1, :, :, :1]))
    assert np.all(np.isfinite(flat))
