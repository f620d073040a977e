"""What the first stages of a student make: the teacher, the choice of channels, what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

import jaxcompress as jc
from experiments.common.data import Dataset, image_shape
from experiments.common.distill import Teaching, featured_training, teaching_loss
from experiments.common.fit import Schedule, fit
from experiments.common.keeping import save
from experiments.common.lessons import Lesson
from experiments.common.measure import augmented
from experiments.common.network import published_variables
from experiments.common.score import Importance, score, source_of
from experiments.common.stage_files import read_arrays
from experiments.common.student import Student
from experiments.common.teacher import view_key
from jaxcompress import models, parallel, training
from jaxcompress.annotations import Array, Batch, Json, PyTree
from jaxcompress.files import atomic_file
from jaxcompress.knowledge import Views
from jaxcompress.processes import by_first

__all__ = ["choose", "make_teacher", "read_keep", "schedule_of", "shrink"]


def make_teacher(
    settings: Student, module: Any, dataset: Dataset, mesh: Mesh, key: jax.Array
) -> dict[str, Json]:
    """Load the teacher's weights, or train it by cross-entropy; save it as `teacher`."""
    shape, folder = image_shape(dataset).shape, settings.workdir / "teacher"
    if settings.weights is not None:
        save(folder, published_variables(module, shape, settings.weights))
        return {}
    train = featured_training(module, settings.features)
    alone = Lesson(teaching_loss(train, Teaching("none")), {}, {}, None)
    schedule = schedule_of(settings, settings.teacher_rate, settings.teacher_epochs)
    variables = models.initialize(module, key, shape)
    state = settings.workdir / "teacher-state"
    save(folder, fit(alone, variables, dataset, schedule, key, mesh, state))
    return {}


def schedule_of(settings: Student, rate: float, epochs: int) -> Schedule:
    """Return how long a network is trained, with the views that stored knowledge is of."""
    key = view_key(settings.seed)
    size, parts = settings.batch_size, settings.accumulate_steps
    return Schedule(rate, epochs, size, settings.views, key, parts)


def choose(
    graph: jc.Graph,
    module: Any,
    variables: PyTree,
    dataset: Dataset,
    *,
    flops: float,
    streams: bool,
    importance: Importance,
    views: Views,
    key: jax.Array,
    file: Path,
) -> dict[str, Json]:
    """Score channels and select those that stay, which are written to a file.

    Args:
        graph: of the teacher.
        module: the teacher.
        variables: of the teacher.
        dataset: whose training images are looked at.
        flops: largest fraction of the FLOPs that may remain.
        streams: prune residual streams too.
        importance: how channels are scored.
        views: of the augmentation.
        key: of everything random.
        file: where the choice is written.
    """
    train = models.training_function(module)

    def train_apply(
        variables: PyTree, images: Batch, _: jax.Array | None = None
    ) -> tuple[jax.Array, PyTree]:
        return train(variables, images, key)  # dropout draws the same units in every call

    groups = list(graph.groups) if streams else jc.graph.internal_groups(graph)
    budget = jc.Budget(flops=flops)
    functions = models.evaluation_function(module), train_apply
    source = source_of(graph, groups, functions, variables, dataset, views)
    keep = jc.select(graph, score(importance, source, budget, key), budget)
    arrays: dict[str, Array] = {name: np.asarray(kept) for name, kept in keep.items()}
    by_first(f"writing {file.name}", lambda: _write(file, arrays))
    return {"kept": int(sum(kept.sum() for kept in keep.values()))}


def _write(file: Path, arrays: dict[str, Array]) -> None:
    with atomic_file(file) as stream:
        np.savez(stream, **arrays)


def read_keep(file: Path) -> dict[str, np.ndarray]:
    """Read what `choose` selected."""
    return read_arrays(file)


def shrink(
    settings: Student,
    prune: jc.Compression,
    train_apply: Any,
    variables: PyTree,
    dataset: Dataset,
    mesh: Mesh,
    key: jax.Array,
) -> dict[str, Json]:
    """Remove the channels and re-estimate BatchNorm statistics; save it as `pruned`."""
    small = parallel.replicate(prune.variables(variables), mesh)
    batches = augmented(
        dataset,
        key,
        count=settings.statistics_images,
        batch_size=settings.batch_size,
        settings=settings.views,
    )
    # From the host, because a mesh of several processes takes no array of one of them.
    images = np.asarray(batches["image"])
    images = jax.device_put(images, parallel.batch_sharding(mesh, axis=1))
    small = training.reestimate(prune.function(train_apply), small, images, key=key)
    save(settings.workdir / "pruned", small)
    return {}
