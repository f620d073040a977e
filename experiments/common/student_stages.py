"""The stages that teacher and pruned network are made in, whatever teaches the student later."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

import jaxcompress as jc
from experiments.common import data, making, recording, teacher
from experiments.common.distill import Method
from experiments.common.keeping import restored
from experiments.common.lessons import Dense, knowledge_folder
from experiments.common.student import Student
from jaxcompress import models
from jaxcompress.annotations import Json, PyTree
from jaxcompress.files import file_digest

__all__ = ["Run", "pruned", "settings_of", "store_knowledge", "trained_teacher"]

Run = Callable[[str, Callable[[], dict[str, Any]], Sequence[str]], object]
"""Does a stage: `run(name, work, files)`."""


def settings_of(settings: Student, dataset: data.Dataset, free: Sequence[str]) -> dict[str, Json]:
    """Return the settings that all stages of one folder share.

    Paths may move, but what lies there may not change.

    Args:
        settings: of the experiment.
        dataset: its data.
        free: names of settings that stages of one folder may differ in.
    """
    plain = json.loads(json.dumps(dataclasses.asdict(settings), default=str))
    for name in ("workdir", "data_dir", *free):
        del plain[name]
    weights = None if settings.weights is None else file_digest(settings.weights)
    return {**plain, "weights": weights, "data": data.identity(dataset)}


def trained_teacher(
    settings: Student, module: Any, dataset: data.Dataset, mesh: Mesh, key: jax.Array, run: Run
) -> Any:
    """Make the teacher, where that is not done, and return its variables."""
    make = functools.partial(making.make_teacher, settings, module, dataset, mesh, key)
    run("teacher", make, ["teacher"])
    shape = data.image_shape(dataset).shape
    like = jax.eval_shape(lambda key: models.initialize(module, key, shape), key)
    return restored(settings.workdir / "teacher", like)


def store_knowledge(
    settings: Student,
    method: Method,
    module: Any,
    variables: PyTree,
    dataset: data.Dataset,
    run: Run,
) -> None:
    """Store what the teacher knows and the method needs, where that is not done."""
    kind = teacher.kind_of(method)
    work = functools.partial(
        recording.record,
        knowledge_folder(settings.workdir, kind),
        teacher.stored_outputs(module, settings.features, settings.before_features, dataset),
        variables,
        teacher.source_of(settings, dataset.train_images, kind),
        dataset,
    )
    run(f"knowledge-{kind}", work, [])


def pruned(
    settings: Student,
    module: Any,
    variables: PyTree,
    dataset: data.Dataset,
    mesh: Mesh,
    keys: tuple[jax.Array, jax.Array],
    run: Run,
) -> tuple[Dense, PyTree]:
    """Choose what stays and remove the rest, where that is not done; return it and what is left.

    `keys` are of the choice, and of the images for BatchNorm statistics.
    """
    apply, train_apply = models.evaluation_function(module), models.training_function(module)
    graph = jc.trace(apply, variables, data.image_shape(dataset))
    file = settings.workdir / "keep.npz"
    choose = functools.partial(
        making.choose,
        graph,
        module,
        variables,
        dataset,
        flops=settings.flops,
        streams=settings.streams,
        importance=settings.importance,
        views=settings.views,
        key=keys[0],
        file=file,
    )
    run("gates", choose, [file.name])
    dense = Dense(graph, making.read_keep(file), variables)
    prune = jc.shrink(graph, dense.keep)
    arguments = settings, prune, train_apply, variables, dataset, mesh, keys[1]
    run("shrink", functools.partial(making.shrink, *arguments), ["pruned"])
    like = jax.eval_shape(prune.variables, variables)
    return dense, restored(settings.workdir / "pruned", like)
