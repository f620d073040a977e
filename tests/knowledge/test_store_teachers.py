"""A store takes only answers that fit to each other and to those that are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.knowledge import Source
from jaxcompress.knowledge.store import Storage, open_store, verify, write
from tests.knowledge import toy

Teacher = Callable[[Any, jax.Array], dict[str, jax.Array]]


def changed(change: Callable[[jax.Array], jax.Array]) -> Teacher:
    def teacher(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        return {**toy.teacher(variables, images), "logits": change(logits(variables, images))}

    return teacher


def logits(variables: Any, images: jax.Array) -> jax.Array:
    return toy.teacher(variables, images)["logits"]


def noisy(x: jax.Array) -> jax.Array:
    return x * jax.random.bernoulli(jax.random.key(0), 0.9, x.shape)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("change", [lambda x: x - x.mean(0), lambda x: x / x.std(0), noisy])
def test_a_teacher_in_training_mode_is_refused(tmp_path: Path, change: Any, dtype: Any) -> None:
    storage = Storage(dtype=dtype, block=8, chunk=2)
    with pytest.raises(ValueError, match="among others these differ: logits by .*evaluation mode"):
        write(tmp_path, changed(change), toy.VARIABLES, toy.SOURCE, storage=storage, batch_size=8)
    assert not toy.files(tmp_path) or not list(tmp_path.glob("records/*/c"))


@pytest.mark.parametrize("missing", [0, 1, 11])
@pytest.mark.parametrize("change", [lambda x: x + 300, lambda x: x * 1.1, lambda x: x[:, ::-1]])
def test_another_function_of_the_same_variables_is_refused(
    original: Path, folder: Path, change: Any, missing: int
) -> None:
    files = sorted(folder.glob("records/logits/c/*/*/0"))
    for file in files[:missing]:
        file.unlink()
    before = toy.files(folder)
    arguments = (toy.VARIABLES, toy.SOURCE)
    options: dict[str, Any] = {"storage": toy.STORAGE, "about": toy.ABOUT, "batch_size": 8}
    with pytest.raises(
        ValueError, match="has other answers to view .*: logits by .*another folder"
    ):
        write(folder, changed(change), *arguments, **options)
    assert toy.files(folder) == before
    write(folder, toy.teacher, *arguments, **options)
    assert toy.files(folder) == toy.files(original)


def test_other_classes_with_the_same_logits_are_refused(tmp_path: Path) -> None:
    storage = Storage(dtype="float32", top_k=2, block=8, chunk=8)
    toy.write_toy(tmp_path, storage=storage)
    toy.write_toy(tmp_path, storage=storage)
    other = changed(lambda x: jnp.roll(x, 1, axis=-1))
    options: dict[str, Any] = {"storage": storage, "about": toy.ABOUT, "batch_size": 8}
    with pytest.raises(ValueError, match="has other answers .*logits/values"):
        write(tmp_path, other, toy.VARIABLES, toy.SOURCE, **options)
    with pytest.raises(ValueError, match="these differ: logits/values"):
        verify(open_store(tmp_path), other, toy.VARIABLES, toy.SOURCE)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38])
def test_numbers_that_a_dtype_cannot_hold_are_refused_by_example(
    tmp_path: Path, dtype: Any, value: float
) -> None:
    images = np.zeros((20, 2, 2, 1), np.float32)
    images[13, 1, 1] = value
    source = Source(images, 20, "damaged", jax.random.key(0))
    storage = Storage(dtype=dtype, block=8, chunk=2)

    def teacher(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        return {"my_indices": images.reshape(len(images), -1)}

    def store() -> None:
        write(tmp_path, teacher, {}, source, storage=storage, batch_size=8)

    if np.isfinite(value) and dtype == "float32":
        return store()
    with pytest.raises(FloatingPointError, match=r"my_indices of examples \[13\] .*view 0"):
        store()
    assert not (tmp_path / "records/my_indices/c/0/1").exists()
