"""Recipes on sequences: what stands at padding changes no loss, gradient, score or factor."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress import models, parallel, recipes
from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.knowledge import (
    Source,
    cross_entropy,
    kd,
    kd_top_k,
    masked_mean,
    next_tokens,
    pad_sequences,
    without_padding,
)
from jaxcompress.knowledge.store import Storage, Store, open_store, write
from tests.toys.record import randomised

WORDS, LENGTH, COUNT = 9, 6, 16
MASK = itemgetter("mask")
KEY = jax.random.key(0)
DECODER = models.Decoder(WORDS, 8, 1, 2, 1, 12)
APPLY = models.evaluation_function(DECODER)
RANDOM = np.random.default_rng(0)
LENGTHS = [LENGTH, 3, 0, 1] * (COUNT // 4)  # few, so that little is compiled
DATA = pad_sequences([RANDOM.integers(0, WORDS, n) for n in LENGTHS], vocabulary=WORDS)
OTHER = {**DATA, "tokens": np.where(DATA["mask"], DATA["tokens"], 7).astype(np.int32)}


def variables_of(seed: int) -> PyTree:
    init = lambda: models.initialize(DECODER, jax.random.key(0), DATA)  # noqa: E731
    return randomised(jax.eval_shape(init), seed)


STUDENT, TEACHER = variables_of(1), variables_of(2)


def student(variables: PyTree, batch: Batch, key: Array | None = None) -> tuple[Array, PyTree]:
    del key
    return APPLY(variables, batch), {}


def labels(batch: Batch) -> jax.Array:
    return next_tokens(batch["tokens"], batch["mask"])


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Store]:
    def store(**storage: Any) -> Store:
        folder = tmp_path_factory.mktemp("store")
        source = Source(OTHER, COUNT, "random", mask=MASK)
        answer = lambda variables, batch: {"logits": APPLY(variables, batch)}  # noqa: E731
        settings = Storage(**{"dtype": "float32", "block": 8, "chunk": 8, **storage})
        options: dict[str, Any] = {"batch_size": 8, "mesh": parallel.mesh(jax.devices()[:1])}
        write(folder, answer, TEACHER, source, storage=settings, **options)
        return open_store(folder, source=source)

    return store


def taught(teacher: Any, batch: Batch, **options: Any) -> tuple[jax.Array, PyTree]:
    """Return a lesson's loss of a batch and its gradient, all positions masked that are padding."""
    lesson = recipes.distill(student, teacher, labels=labels, weight=0.4, mask=MASK, **options)
    known = {name: jnp.asarray(array) for name, array in lesson.knowledge.items()}
    return jax.jit(jax.value_and_grad(lesson.loss))(STUDENT, {**batch, **known})


def expected() -> jax.Array:
    """The loss of all sequences, each cut to its length."""

    @jax.jit
    def of_one(cut: Batch) -> jax.Array:
        logits, answers = APPLY(STUDENT, cut), APPLY(TEACHER, cut)
        loss = 0.4 * kd(logits, answers, 1.0).mean()
        if logits.shape[1] > 1:
            loss += 0.6 * cross_entropy(logits[0, :-1], cut["tokens"][0, 1:]).mean()
        return loss

    total = jnp.zeros(())
    for row, length in enumerate(LENGTHS):
        cut = {name: array[row : row + 1, :length] for name, array in DATA.items()}
        total += of_one(cut) if length else 0.0
    return total / COUNT


def test_the_lesson_is_that_of_sequences_cut_short() -> None:
    value, _ = taught((APPLY, TEACHER), DATA)
    np.testing.assert_allclose(value, expected(), rtol=1e-5)


@pytest.mark.parametrize("distance", ["classes", "values", lambda s, t: kd(s, t, 1.0)])
def test_padding_changes_neither_loss_nor_gradient(distance: Any) -> None:
    clean, dirty = (taught((APPLY, TEACHER), x, distance=distance) for x in (DATA, OTHER))
    assert float(clean[0]) > 0
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    whole = recipes.distill(student, (APPLY, TEACHER), distance=distance)
    loss = jax.jit(whole.loss)
    assert float(loss(STUDENT, DATA)) != float(loss(STUDENT, OTHER))


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-6), ("float16", 1e-3)])
def test_stored_answers_are_those_of_the_live_teacher(
    stores: Callable[..., Store], dtype: str, rtol: float
) -> None:
    live, gradient = taught((APPLY, TEACHER), DATA)
    value, slope = taught(stores(dtype=dtype), DATA)
    np.testing.assert_allclose(value, live, rtol=rtol)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=10 * rtol)  # noqa: E731
    jax.tree.map(close, slope, gradient)


def test_all_logits_but_one_are_all(stores: Callable[..., Store]) -> None:
    live, _ = taught((APPLY, TEACHER), DATA)
    value, _ = taught(stores(top_k=WORDS - 1), DATA)
    np.testing.assert_allclose(value, live, rtol=1e-5)


def test_the_largest_logits_are_compared_by_kd_top_k(stores: Callable[..., Store]) -> None:
    store = stores(top_k=2, temperature=4.0)
    lesson = recipes.distill(student, store, mask=MASK)
    known = {name: array[:, 0] for name, array in store.load().items()}
    assert {n: x.shape for n, x in lesson.knowledge.items()} == {
        "logits/values": (COUNT, LENGTH, 2),
        "logits/indices": (COUNT, LENGTH, 2),
        "logits/rest": (COUNT, LENGTH),
    }
    values, indices, rest = (known[f"logits/{part}"] for part in ("values", "indices", "rest"))
    arguments = jnp.asarray(values), jnp.asarray(indices), jnp.asarray(rest)
    every = recipes.distill(student, (APPLY, TEACHER), mask=MASK)

    @jax.jit
    def losses(variables: PyTree) -> tuple[jax.Array, jax.Array, jax.Array]:
        of_each = kd_top_k(APPLY(variables, DATA), *arguments, 4.0)
        value = lesson.loss(variables, {**OTHER, **known})
        return value, masked_mean(of_each, DATA["mask"]).mean(), every.loss(variables, DATA)

    value, of_largest, of_all = losses(STUDENT)
    np.testing.assert_allclose(value, of_largest, rtol=1e-5)
    assert 0 < float(value) < float(of_all)


def test_the_largest_logits_are_compared_at_their_own_temperature(
    stores: Callable[..., Store],
) -> None:
    store = stores(top_k=2, temperature=2.0)
    compare = lambda logits, known: kd_top_k(logits, **known, temperature=2.0)  # noqa: E731
    given, _ = taught(store, DATA, distance=compare)
    np.testing.assert_array_equal(given, taught(store, DATA)[0])
    with pytest.raises(ValueError, match="read whole logits, .* 2 largest"):
        recipes.distill(student, store, distance="values")


SMALL = recipes.Learned(start=recipes.Fisher(rounds=2, examples=8), steps=3, examples=8)


def test_padding_changes_no_score() -> None:
    def scores(data: Batch, mask: Any) -> list[Array]:
        seen: list[Array] = []

        def importance(problem: Any, budget: Any, key: Any) -> Any:
            seen.append(SMALL(problem, budget, key))
            return seen[0]

        options: dict[str, Any] = {"importance": importance, "key": KEY, "mask": mask}
        recipes.prune(APPLY, TEACHER, [data], jc.Budget(flops=0.8), **options)
        return [np.asarray(score) for _, score in sorted(seen[0].items())]

    clean, dirty, counted = scores(DATA, MASK), scores(OTHER, MASK), scores(OTHER, None)
    assert all(np.isfinite(score).all() for score in clean)
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    assert any((a != b).any() for a, b in zip(dirty, counted, strict=True))


def test_padding_changes_no_factor() -> None:
    settings = recipes.LowRankSettings(examples=16, size=8, fitting=16, fitting_size=8)

    def factors(data: Batch, mask: Any) -> PyTree:
        options: dict[str, Any] = {"settings": settings, "compensate": 1, "key": KEY}
        budget = jc.Budget(flops=0.8)
        return recipes.low_rank(APPLY, TEACHER, [data], budget, mask=mask, **options).variables

    clean, dirty, counted = factors(DATA, MASK), factors(OTHER, MASK), factors(OTHER, None)
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    leaves = [jax.tree.leaves(tree) for tree in (dirty, counted)]
    assert any(a.shape != b.shape or (a != b).any() for a, b in zip(*leaves, strict=True))


def test_padding_changes_no_weight_that_is_left() -> None:
    whole = lambda data, mask: recipes.sparse(APPLY, TEACHER, [data], 0.5, mask=mask).variables  # noqa: E731
    clean, dirty, counted = whole(DATA, MASK), whole(OTHER, MASK), whole(OTHER, None)
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (dirty, counted)), strict=True))


def test_answers_of_whole_sequences_leave_padding_out_of_factors() -> None:
    def apply(variables: PyTree, batch: Batch) -> jax.Array:
        return without_padding(APPLY(variables, batch), batch["mask"]).sum(1)

    def factors(data: Batch) -> PyTree:
        settings = recipes.LowRankSettings(examples=16, size=8)
        options: dict[str, Any] = {"settings": settings, "compensate": 0, "key": KEY}
        budget = jc.Budget(flops=0.8)
        return recipes.low_rank(apply, TEACHER, [data], budget, mask=MASK, **options).variables

    jax.tree.map(np.testing.assert_array_equal, factors(DATA), factors(OTHER))


def test_masked_moments_are_those_of_the_positions_that_are_there() -> None:
    kernel = {"a": jnp.ones((3, 2)), "b": jnp.ones((2, 2))}
    apply = lambda v, x: (x[0].reshape(-1, 3) @ v["a"]).reshape(2, 4, 2) @ v["b"]  # noqa: E731
    x, there = RANDOM.normal(size=(2, 4, 3)).astype(np.float32) + 100, np.eye(2, 4, dtype=bool)
    x = np.where(there[..., None], x, np.nan)
    graph = jc.trace(apply, kernel, (jnp.ones((2, 4, 3)), there))
    forms = {"a": "dense", "b": "dense"}
    moments = jc.low_rank.input_moments(graph, apply, kernel, [(x, there)], forms, itemgetter(1))
    seen: dict[str, np.ndarray] = {"a": x[there], "b": x[there] @ np.ones((3, 2))}
    for name, rows in seen.items():
        extended = np.pad(rows.astype(np.float64), ((0, 0), (0, 1)), constant_values=1)
        desired = extended.T @ extended / len(rows)
        np.testing.assert_allclose(moments[name][0], desired, rtol=1e-5)


def test_masks_of_other_positions_are_refused() -> None:
    shorter = lambda batch: batch["mask"][:, :3]  # noqa: E731
    words = r"it is \[16, 3\] and the arrays are .*\(16, 6, 9\)"
    for recipe in (recipes.prune, recipes.low_rank):
        with pytest.raises(ValueError, match=words):
            recipe(APPLY, TEACHER, [DATA], jc.Budget(flops=0.8), key=KEY, mask=shorter)
    with pytest.raises(ValueError, match=words):
        lesson = recipes.distill(student, (APPLY, TEACHER), mask=shorter)
        jax.eval_shape(lesson.loss, STUDENT, DATA)
    labelled = recipes.distill(
        student, (APPLY, TEACHER), labels=lambda batch: batch["tokens"][:, 0]
    )
    with pytest.raises(ValueError, match=r"one label per row .*\[16, 6, 9\] and the labels \[16\]"):
        jax.eval_shape(labelled.loss, STUDENT, DATA)
