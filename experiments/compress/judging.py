"""How good a network is: by labels, and by how far its answers are from the whole network's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.compress.compiling import compiled
from experiments.compress.data import batches_of
from experiments.compress.fitting import Task
from experiments.compress.model import Model
from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.recipes.distances import distance_of

__all__ = ["answers_of", "asked", "distance_between", "judged"]

SIZE = 256


def answers_of(task: Task, model: Model, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return what a network says of examples, `[examples, ...]`."""
    return asked(task, model, arrays)(model.variables)


def asked(
    task: Task, model: Model, arrays: dict[str, np.ndarray]
) -> Callable[[PyTree], np.ndarray]:
    """Make `answers(variables)`, what a network says of examples, compiled once."""
    inputs, given = task.data.inputs, {"image": arrays["image"]}

    def run(variables: Any, batch: dict[str, Array]) -> Array:
        return model.apply(variables, inputs(batch))

    run_compiled = compiled(run)

    def answers(variables: PyTree) -> np.ndarray:
        parts = [np.asarray(run_compiled(variables, part)) for part in batches_of(given, SIZE)]
        return np.concatenate(parts).astype(np.float32)

    return answers


def distance_between(task: Task, answers: np.ndarray, wanted: np.ndarray) -> float:
    """Return the mean distance of answers: of classes `kd` at temperature 4, else squared."""
    return float(np.mean(distance_of(task.outputs)(answers, wanted)))


def judged(task: Task, model: Model, wanted: np.ndarray) -> dict[str, Json]:
    """Judge a network by the test examples.

    Args:
        task: what it is for.
        model: the network.
        wanted: what the whole network says of them.

    Returns:
        `distance` from the whole network's answers; of classes `agreement`, the share of examples
        of which both say the same; and `accuracy`, None without labels.
    """
    answers = answers_of(task, model, task.data.test)
    facts: dict[str, Json] = {"distance": distance_between(task, answers, wanted), "accuracy": None}
    if task.outputs == "classes":
        chosen = answers.argmax(-1)
        facts["agreement"] = float((chosen == wanted.argmax(-1)).mean())
        if task.is_judged_by_labels:
            facts["accuracy"] = float((chosen == task.data.test["label"]).mean())
    return facts
