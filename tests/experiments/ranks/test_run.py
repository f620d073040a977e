"""The rank experiment from end to end, with random weights and few images."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import prune, quickstart, rank_configuration, rank_rows, rank_study, tuning
from experiments.rank_plot import main as plot
from jaxcompress import models, parallel


@pytest.fixture(scope="module")
def task():
    dataset = prune.data.load("digits")
    dataset = dataclasses.replace(
        dataset,
        train_images=dataset.train_images[:64],
        train_labels=dataset.train_labels[:64],
        test_images=dataset.test_images[:40],
        test_labels=dataset.test_labels[:40],
    )
    module = models.build("resnet8", num_classes=10)
    variables = models.initialize(module, jax.random.key(0), quickstart.SHAPE)
    apply, train_apply = models.evaluation_function(module), models.training_function(module)
    mesh = parallel.mesh(jax.devices()[:1])
    return prune.Task(apply, train_apply, variables, dataset, mesh, quickstart.VIEWS)


CONFIG = rank_configuration.Config(
    model="resnet8",
    dataset="digits",
    flops=(0.6,),
    methods=("uniform", "sensitivity"),
    factors=("weights", "weighted"),
    tuned=("weighted",),
    final=(0.5,),
    tuning=tuning.Tuning(epochs=1, train_images=32, batch_size=16),
    sweeps=1,
    covariance_images=32,
    fitting_images=32,
    statistics_images=32,
    batch_size=16,
)


def forbidden(*_):
    raise AssertionError("this was done before")


def test_all_stages_run_and_resume(task, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, workdir=tmp_path)
    monkeypatch.setattr(rank_configuration, "prepare", lambda *_: task)
    rows = rank_configuration.main(config)
    names = [row.name for row in rows]
    assert names[0] == "dense" and len(names) == len(set(names))
    compared = [row for row in rows if "method" in row.extra]
    steps = ["", "re-estimated", "", "re-estimated", "fine-tuned"]
    assert [row.extra["step"] for row in compared] == 2 * steps
    assert sum(row.extra["reestimated"] for row in compared) == 6
    assert all((row.flops or 0) <= 0.6 * (rows[0].flops or 0) for row in compared)
    final = [row for row in rows if row.extra.get("final")]
    assert [row.bytes is None for row in final] == [True, False, False, False]
    assert all(row.flops == final[0].flops <= 0.5 * rows[0].flops for row in final)

    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == names
    assert (tmp_path / "rank_configuration.png").stat().st_size > 1000
    monkeypatch.setattr(rank_rows, "compare", forbidden)
    monkeypatch.setattr(rank_rows, "final", forbidden)
    assert [row.name for row in rank_configuration.main(config)] == names

    plot((tmp_path / "report.json",), tmp_path / "again.png")
    assert (tmp_path / "again.png").exists()


def test_what_images_told_is_kept(task, tmp_path):
    known = rank_study.learn(task, jax.random.key(0), 32, 16, tmp_path)
    assert set(known.outputs) == set(known.forms) == set(known.output_roots)
    for path, own in known.centred.patches.items():
        assert np.trace(own[0]) <= np.trace(known.inputs.patches[path][0])
    again = rank_study.learn(task, jax.random.key(1), 32, 16, tmp_path)
    for path in known.forms:
        np.testing.assert_array_equal(again.outputs[path], known.outputs[path])


def test_missing_data_is_said_before_any_work(tmp_path):
    config = dataclasses.replace(rank_configuration.Config(), workdir=tmp_path)
    with pytest.raises(ValueError, match="pass --weights and --data-dir"):
        rank_configuration.prepare(config, jax.random.key(0))
