"""What the teacher knows: the largest logits of a few views of every image, stored once."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from experiments.common.network import Network
from experiments.common.streaming.drawn import source_of
from experiments.common.timing import Stopwatch
from experiments.imagenet.network import fast
from experiments.imagenet.reading import Data
from jaxcompress import knowledge, recipes
from jaxcompress.annotations import Array, Batch, Json, PyTree
from jaxcompress.knowledge import store

__all__ = ["lesson_of", "record", "rows_of"]

CHECKED = 16
"""Records that are computed again at the end."""
BATCH = 256
"""Views that the teacher answers at once, at most."""


def record(data: Data, teacher: Network, folder: Path, console: Console) -> dict[str, Json]:
    """Store what the teacher says of all views; return its size and the pace.

    Args:
        data: whose training images are shown.
        teacher: the whole network.
        folder: of the store.
        console: where progress is shown.
    """
    config, source, about = data.config, _source(data), _about(data)
    storage = store.Storage(top_k=config.top_k, temperature=config.temperature)
    answers = _answers(teacher)
    watch = Stopwatch()

    def show(done: store.Progress) -> None:
        if done.written:
            console.print(f"    {done.written} of {done.blocks} blocks, {watch.seconds:,.0f} s")
        else:
            console.print(f"    {done.num_bytes / 1e6:,.2f} MB of knowledge before compression")

    manifest = store.write(
        folder,
        answers,
        teacher.variables,
        source,
        storage=storage,
        about=about,
        batch_size=_batch(len(data.train)),
        on_progress=show,
    )
    seconds = watch.seconds
    opened = store.open_store(folder, source=source, about=about)
    checked = store.verify(opened, answers, teacher.variables, source, count=CHECKED)
    views = manifest.examples * config.stored_views
    return {
        "views": views,
        "views_per_second": views / seconds,
        "megabytes": store.num_bytes(manifest) / 1e6,
        "megabytes_on_disk": _size(folder) / 1e6,
        "largest_difference": checked.largest,
    }


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _batch(examples: int) -> int:
    """Return a power of two, no larger than what there is, that all devices share."""
    devices, size = len(jax.local_devices()), BATCH
    while size > max(examples, devices) // 2 and size // 2 >= devices:
        size //= 2
    return size


def lesson_of(data: Data, student: Network, folder: Path) -> recipes.Lesson:
    """Return the loss of a student that learns from the store, and from labels.

    Args:
        data: of which the store is.
        student: its functions.
        folder: of the store.
    """
    opened = store.open_store(folder, source=_source(data), about=_about(data))
    weight = data.config.distillation
    labels = itemgetter("label") if weight < 1 else None
    return recipes.distill(student.train_apply, opened, labels=labels, weight=weight)


def rows_of(lesson: recipes.Lesson, batch: dict[str, np.ndarray]) -> dict[str, Array]:
    """Return a batch with what is stored of its examples."""
    stored = {name: array[batch["example"]] for name, array in lesson.knowledge.items()}
    if lesson.view_of is None:  # one view is stored: its records have no axis of views
        batch = {name: array for name, array in batch.items() if name != "view"}
    return {**batch, **stored}


def _source(data: Data) -> knowledge.Source:
    return source_of(data.drawn(), data.config.stored_views)


def _about(data: Data) -> dict[str, Json]:
    config = data.config
    return {"mean": list(config.mean), "std": list(config.std), "network": config.network}


def _answers(teacher: Network) -> store.Teacher:
    apply = fast(teacher.apply)

    def answers(variables: PyTree, pixels: Batch) -> dict[str, Any]:
        return {store.LOGITS: apply(variables, pixels)}

    return answers
