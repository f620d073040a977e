"""Settings of a teacher and its student that do not fit together, refused before any work."""

from __future__ import annotations

from collections.abc import Collection

import jax

from experiments.common import data
from experiments.common.accumulating import split_problem
from experiments.common.distill import Method
from experiments.common.student import Student
from experiments.common.teacher import network_of, stored_outputs
from jaxcompress import models, parallel

__all__ = ["check_student"]


def check_student(settings: Student, methods: Collection[Method], dataset: data.Dataset) -> None:
    """Raise unless what is stored, taught and re-estimated can be.

    Args:
        settings: of teacher and student.
        methods: how the student is taught.
        dataset: its data.

    Raises:
        ValueError: naming every setting that does not fit.
    """
    problems = [*_split(settings), *_images(settings, dataset), *_views(settings, methods)]
    problems += _submodules(settings, dataset)
    if problems:
        raise ValueError("these settings do not fit together:\n- " + "\n- ".join(problems))


def _split(settings: Student) -> list[str]:
    parts, devices = settings.accumulate_steps, parallel.mesh().size
    problem = split_problem(settings.batch_size, parts, devices)
    return [] if problem is None else [f"batch_size, accumulate_steps: {problem}"]


def _images(settings: Student, dataset: data.Dataset) -> list[str]:
    size, count = settings.batch_size, len(dataset.train_labels)
    given = {
        "statistics_images": min(settings.statistics_images, count),
        "train_images": count,
    }
    return [
        f"{name}: whole batches of batch_size={size} are taken of them, but there are {number}; "
        "raise it, or lower batch_size"
        for name, number in given.items()
        if number < size
    ]


def _views(settings: Student, methods: Collection[Method]) -> list[str]:
    if "crossed" not in methods or settings.stored_views > 1:
        return []
    return [
        "stored_views: the method crossed pairs a view with what is known of another, but "
        f"stored_views={settings.stored_views}; store 2, or take the method views"
    ]


def _submodules(settings: Student, dataset: data.Dataset) -> list[str]:
    name, options = network_of(settings, dataset)
    module, image = models.build(name, **options), data.image_shape(dataset)
    try:
        like = jax.eval_shape(
            lambda key: models.initialize(module, key, image.shape), jax.random.key(0)
        )
        teacher = stored_outputs(module, settings.features, settings.before_features, dataset)
        jax.eval_shape(teacher, like, image)
    except ValueError as error:
        return [f"features, before_features: {error}"]
    return []
