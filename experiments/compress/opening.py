"""Model and data of the settings, brought together and checked before anything long is done."""

from __future__ import annotations

import numpy as np
from rich.console import Console

from experiments.compress import data as examples
from experiments.compress.budget import check_reachable, parsed, structural
from experiments.compress.fitting import Task, fitted, pixels_of
from experiments.compress.methods import traced
from experiments.compress.model import Model, given_model
from experiments.compress.settings import STRUCTURAL, Config
from experiments.compress.shipped import shipped_model
from jaxcompress.models import NETWORKS
from jaxcompress.paths import check_matched, flatten_with_paths

__all__ = ["opened"]


def opened(config: Config, console: Console) -> Task:
    """Read model and data, say what was found, and refuse what cannot be.

    Raises:
        ValueError: if either is not there or cannot be used, or the budget cannot be reached.
    """
    is_own = ":" in config.model
    model = given_model(config.model) if is_own else None
    data = examples.load(config, _size(config, model))
    data = data._replace(inputs=pixels_of(config, data.train))
    if model is None:
        model = shipped_model(config.model, _classes(config, data), data.one(), config.weights)
    task = fitted(config, model, data)
    check_matched("protect", config.protect, flatten_with_paths(task.model.variables)[0])
    _tell(task, config, console)
    _check_reachable(config, task)
    return task


def _size(config: Config, model: Model | None) -> int | None:
    """Return height and width of the images that a model was made for, if that is known."""
    if model is None:
        inputs = NETWORKS[config.model].inputs
        return int(inputs.shape[1]) if len(inputs.shape) == 4 else None
    shape = np.shape(model.example)
    return int(shape[2]) if len(shape) == 4 else None


def _classes(config: Config, data: examples.Data) -> int:
    if config.num_classes:
        return config.num_classes
    if not data.has_labels:
        raise ValueError(
            f"num_classes: {config.model} tells as many classes apart as there are labels, but "
            f"{data.name} has none; say for example --num-classes 10"
        )
    if config.weights is None and data.num_classes < 2:
        raise ValueError(
            f"data: {config.model} is trained on two classes or more; {data.name} has 1"
        )
    return data.num_classes


def _tell(task: Task, config: Config, console: Console) -> None:
    """Say what is compressed, so that a wrong guess is seen."""
    data, model = task.data, task.model
    shape = list(task.one().shape[1:])
    console.print(
        f"model: {config.model} ({model.kind}), inputs {shape}, outputs are {task.outputs}"
    )
    labels = "without labels"
    if data.has_labels:
        labels = "with labels" if task.learns_from_labels else "with labels to judge by"
    count = f"{len(data.train['image']):,} training and {len(data.test['image']):,} test examples"
    console.print(f"data: {data.name}, {count}, {labels}")
    if data.train["image"].dtype == np.uint8:
        mean, std = ([round(x, 4) for x in part] for part in (data.inputs.mean, data.inputs.std))
        console.print(f"    pixels are given as (x / 255 - {mean}) / {std}", markup=False)
    for note in data.notes:
        console.print(f"    {note}", markup=False)


def _check_reachable(config: Config, task: Task) -> None:
    """Refuse a budget of channels alone that no choice of them reaches; nothing is computed."""
    asked = structural(parsed(config.budget), "sparse" in config.stages)
    asked.pop("latency", None)  # not timed yet
    order = [stage for stage in config.stages if stage in STRUCTURAL]
    if asked and order == ["prune"]:
        remedy = "; or add the stage low_rank"
        check_reachable(asked, traced(task, task.model), config.protect, remedy)
