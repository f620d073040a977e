"""`recipes.distill`: the loss against its formula, live, stored, and across views."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcompress import recipes, training
from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.knowledge import cross_entropy, kd
from jaxcompress.knowledge.store import Store, open_store
from tests.knowledge import toy

LABEL = operator.itemgetter("label")
KERNEL = jnp.asarray(np.random.default_rng(4).normal(size=(16, 6)), jnp.float32)


def student(variables: PyTree, images: Array, key: Array | None = None) -> tuple[Array, PyTree]:
    del key
    return images.reshape(len(images), -1) @ variables, {}


def featured(variables: PyTree, images: Array, key: Array | None = None) -> tuple[PyTree, PyTree]:
    logits, state = student(variables, images, key)
    return (logits, jnp.tanh(logits[:, :3])), state


def answer(variables: PyTree, images: Array) -> Array:
    return student(variables, images)[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store") / "toy"
    toy.write_toy(folder)
    return open_store(folder)


@pytest.fixture(scope="module")
def batch() -> Batch:
    random = np.random.default_rng(0)
    label = jnp.asarray(random.integers(0, 6, 8))
    return {"image": jnp.asarray(random.normal(size=(8, 4, 4, 1)), jnp.float32), "label": label}


def test_a_live_teacher_is_compared_by_the_formula(batch: Batch) -> None:
    teacher = KERNEL * 2
    logits, target = answer(KERNEL, batch["image"]), answer(teacher, batch["image"])
    alone = recipes.distill(student, (answer, teacher))
    np.testing.assert_allclose(alone.loss(KERNEL, batch), kd(logits, target, 4.0).mean(), rtol=1e-6)
    both = recipes.distill(student, (answer, teacher), labels=LABEL, weight=0.3)
    expected = 0.3 * kd(logits, target, 4.0) + 0.7 * cross_entropy(logits, batch["label"])
    np.testing.assert_allclose(both.loss(KERNEL, batch), expected.mean(), rtol=1e-6)
    assert float(recipes.distill(student, (answer, KERNEL)).loss(KERNEL, batch)) == 0


def test_stored_views_are_picked(store: Store, batch: Batch) -> None:
    lesson = recipes.distill(student, store)
    known = lesson.knowledge["logits"]
    assert known.shape == (toy.EXAMPLES, toy.VIEWS, 6) and set(lesson.knowledge) == {"logits"}
    view_of: Any = lesson.view_of
    rows, view = np.arange(8), view_of(jnp.arange(8), 3)
    assert view.tolist() == [1] * 8
    given = {**batch, "logits": known[rows], "view": view}
    expected = kd(answer(KERNEL, batch["image"]), known[rows, 1], 4.0).mean()
    np.testing.assert_allclose(lesson.loss(KERNEL, given), expected, rtol=1e-6)


def test_crossed_views_teach_student_and_assistant(store: Store, batch: Batch) -> None:
    lesson = recipes.distill(featured, store, labels=LABEL, crossed=3)
    variables = lesson.variables(KERNEL, jax.random.key(0))
    view_of: Any = lesson.view_of
    view = view_of(jnp.arange(8), 0)
    assert (view < toy.VIEWS).any() and (view >= toy.VIEWS).any()
    given = {**batch, "logits": lesson.knowledge["logits"][:8], "view": view}
    gradient = jax.grad(lesson.loss)(variables, given)
    assert all(
        np.abs(leaf).max() > 0 for leaf in (gradient["student"], gradient["assistant"]["out"])
    )
    value, (state, _) = lesson.training_loss(variables, given, jax.random.key(1))
    assert set(state) == {"student"} and np.isfinite(value)


def test_a_student_learns_what_its_teacher_says(batch: Batch) -> None:
    lesson = recipes.distill(student, (answer, KERNEL))
    tx = optax.adam(0.05)
    start = {"params": KERNEL * 0}

    def train(variables: PyTree, x: Array, key: Array) -> tuple[Array, PyTree]:
        return answer(variables["params"], x), {}

    lesson = recipes.distill(train, (answer, KERNEL))
    state = training.init_state(start, tx)
    step = jax.jit(training.train_step(lesson.training_loss, tx))
    first = float(lesson.loss(start, batch))
    for _ in range(40):
        state, _ = step(state, batch, jax.random.key(0))
    assert float(lesson.loss(state.variables, batch)) < 0.2 * first


def test_half_precision(batch: Batch) -> None:
    lesson = recipes.distill(student, (answer, KERNEL.astype(jnp.bfloat16)), distance="values")
    half = {**batch, "image": batch["image"].astype(jnp.bfloat16)}
    assert np.isfinite(float(lesson.loss(KERNEL.astype(jnp.bfloat16) * 2, half)))


@pytest.mark.parametrize("broken", [jnp.nan, jnp.inf])
def test_a_live_teacher_that_is_not_finite_is_refused(broken: float) -> None:
    teacher = (lambda variables, x: x @ variables["a"]), {"a": jnp.eye(3).at[0, 1].set(broken)}
    student: Any = lambda variables, x, key: (x @ variables, {})  # noqa: E731
    with pytest.raises(ValueError, match="teacher's variables must be finite, .* infinity: a; tra"):
        recipes.distill(student, teacher)


def test_wrong_arguments_are_refused(store: Store) -> None:
    bare: Any = answer
    unknown: Any = "logits"
    with pytest.raises(ValueError, match="weight must be .* above 0 and of at most 1"):
        recipes.distill(student, (answer, KERNEL), weight=0.0)
    with pytest.raises(TypeError, match="open_store"):
        recipes.distill(student, bare)
    with pytest.raises(ValueError, match="store two or more"):
        recipes.distill(featured, (answer, KERNEL), crossed=3)
    with pytest.raises(ValueError, match="this store holds"):
        recipes.distill(featured, store, crossed=3, features="nope")
    with pytest.raises(ValueError, match="'classes', 'values'"):
        recipes.distill(student, (answer, KERNEL), distance=unknown)
