"""Which examples are learned from, and which are only judged by."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from experiments.compress import data, methods
from experiments.compress.fitting import Task
from experiments.compress.model import given_model
from tests.experiments.compress.conftest import HERE, quick


def test_labels_may_judge_and_not_teach(digits: Path, tmp_path: Path) -> None:
    config = quick(tmp_path, data=str(digits), test_share=0.25)
    both = data.load(config, None)
    judging = data.load(dataclasses.replace(config, labels="test"), None)
    assert [len(part["image"]) for part in (both.train, both.test)] == [150, 50]
    assert both.train.keys() == {"image", "label"} and judging.train.keys() == {"image"}
    np.testing.assert_array_equal(judging.test["label"], both.test["label"])
    assert judging.has_labels and judging.num_classes == int(both.test["label"].max()) + 1
    model = given_model(f"{HERE / 'own_linen.py'}:make")
    tasks = [Task(model, part, "classes") for part in (both, judging)]
    assert [task.learns_from_labels for task in tasks] == [True, False]
    assert all(task.is_judged_by_labels for task in tasks)


def test_large_examples_are_looked_at_in_smaller_batches(digits: Path, tmp_path: Path) -> None:
    known = data.load(quick(tmp_path, data=str(digits)), None)
    large = known._replace(train={"image": np.zeros((10, 224, 224, 3), np.uint8)})
    model = given_model(f"{HERE / 'own_linen.py'}:make")
    sizes = [methods.size_of(Task(model, part, "classes")) for part in (known, large)]
    assert sizes == [128, 27]
