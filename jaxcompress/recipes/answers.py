"""What a teacher answers to a batch: asked now, or read from a store, whole or the k largest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.knowledge import kd_top_k
from jaxcompress.knowledge.store import LOGITS, Store
from jaxcompress.recipes.distances import Compare, Distance, distance_of
from jaxcompress.recipes.examples import Inputs

__all__ = ["Answers", "check_store", "compare_of", "live", "records_of", "stored"]

Answers: TypeAlias = Callable[[Any], Any]
"""`answers(batch)`: what the teacher says about it."""

PARTS = ("values", "indices", "rest")


def live(apply: Callable[[PyTree, Batch], Array], variables: PyTree, inputs: Inputs) -> Answers:
    """Return what asks a teacher in evaluation mode."""
    return lambda batch: apply(variables, inputs(batch))


def is_partial(store: Store) -> bool:
    """Whether a store holds the k largest logits instead of all."""
    return store.manifest.storage.get("top_k") is not None


def records_of(store: Store) -> list[str]:
    """Name the records that make up a store's logits."""
    return [f"{LOGITS}/{part}" for part in PARTS] if is_partial(store) else [LOGITS]


def stored(store: Store) -> Answers:
    """Return what takes stored logits out of a batch, of the views that it shows.

    Whole they are one array, of the k largest a dict `{"values", "indices", "rest"}`.
    """
    records = records_of(store)

    def answers(batch: Batch) -> PyTree:
        known = [jnp.asarray(batch[name]) for name in records]
        if "view" in batch:
            known = [jax.vmap(lambda views, v: views[v])(x, batch["view"]) for x in known]
        return dict(zip(PARTS, known, strict=True)) if is_partial(store) else known[0]

    return answers


def compare_of(distance: Distance, teacher: Any) -> Compare:
    """Return the function that a distance stands for, given what a teacher's answers are."""
    if distance == "classes" and isinstance(teacher, Store) and is_partial(teacher):
        # What is left out of the k largest was summed up at this temperature.
        temperature = teacher.manifest.storage["temperature"]
        return distance_of(lambda logits, known: kd_top_k(logits, **known, temperature=temperature))
    return distance_of(distance)


def check_store(
    store: Store, crossed: int | None, features: str | None, distance: Distance
) -> None:
    """Raise unless a store holds what a lesson reads.

    Raises:
        ValueError: if records are missing, or there is one view for crossed ones, or the k largest
            logits where all are read.
    """
    wanted = [*records_of(store), *([] if features is None else [features])]
    if not set(wanted) <= set(store.arrays):
        raise ValueError(
            f"a student learns from the stored {wanted}, but this store holds "
            f"{sorted(store.arrays)}; store them"
        )
    views, storage = store.manifest.views["count"], store.manifest.storage
    if crossed is not None and views < 2:
        raise ValueError(
            f"crossed views hold one stored view back, but {views} are stored; store two or more"
        )
    if is_partial(store) and (crossed is not None or distance == "values"):
        raise ValueError(
            "crossed views and distance='values' read whole logits, but this store holds the "
            f"{storage['top_k']} largest; store them with top_k=None"
        )
