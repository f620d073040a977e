"""The rank experiment from end to end, with random weights and few images."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
import pytest

from experiments.common import data
from experiments.common.measure import augmented
from experiments.common.network import Network, untrained
from experiments.common.tuning import Tuning
from experiments.ranks import plot, run, study
from experiments.ranks import rows as rows_module
from experiments.ranks.original import prepare
from experiments.ranks.settings import Config
from jaxcompress import models, parallel
from jaxcompress.knowledge import Views

NETWORK = {"num_classes": 10, "width": 4}
Original = tuple[Network, data.Dataset, Views]


@pytest.fixture(scope="module")
def original() -> Original:
    dataset = data.first(data.load("digits"), train_images=64, test_images=40)
    module = models.build("resnet8", **NETWORK)
    variables = models.initialize(module, jax.random.key(0), data.image_shape(dataset).shape)
    network = untrained("resnet8", NETWORK, variables)
    return network, dataset, data.DIGITS_VIEWS


CONFIG = Config(
    network="resnet8",
    dataset="digits",
    flops=(0.6,),
    methods=("uniform", "sensitivity"),
    factors=("weights", "weighted"),
    tuned=("weighted",),
    final=(0.5,),
    tuning=Tuning(epochs=1, train_images=32, batch_size=16),
    sweeps=1,
    covariance_images=32,
    fitting_images=32,
    statistics_images=32,
    batch_size=16,
)


def forbidden(*_: Any) -> NoReturn:
    raise AssertionError("this was done before")


def test_all_stages_run_and_resume(
    original: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(CONFIG, workdir=tmp_path)
    one = parallel.mesh(jax.devices()[:1])
    monkeypatch.setattr(run.parallel, "mesh", lambda: one)
    monkeypatch.setattr(run, "prepare", lambda *_: original)
    rows = run.main(config)
    names = [row.name for row in rows]
    assert names[0] == "dense" and len(names) == len(set(names))
    compared = [row for row in rows if "method" in row.extra]
    steps = ["", "re-estimated", "", "re-estimated", "fine-tuned"]
    assert [row.extra["step"] for row in compared] == 2 * steps
    assert sum(row.extra["reestimated"] for row in compared) == 6
    assert all(row.flops and rows[0].flops and row.flops <= 0.6 * rows[0].flops for row in compared)
    final = [row for row in rows if row.extra.get("final")]
    assert [row.bytes is None for row in final] == [True, False, False, False]
    assert rows[0].flops and final[0].flops
    assert all(row.flops == final[0].flops for row in final)
    assert final[0].flops <= 0.5 * rows[0].flops

    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == names
    assert (tmp_path / "rank_configuration.png").stat().st_size > 1000
    monkeypatch.setattr(rows_module, "compare", forbidden)
    monkeypatch.setattr(rows_module, "final", forbidden)
    assert [row.name for row in run.main(config)] == names

    plot.main(plot.Config((tmp_path / "report.json",), tmp_path / "again.png"))
    assert (tmp_path / "again.png").exists()


def test_what_images_told_is_kept(original: Original, tmp_path: Path) -> None:
    network, dataset, views = original
    key = jax.random.key(0)
    images = augmented(dataset, key, count=32, batch_size=16, settings=views)["image"]
    known = study.learn(network.apply, network.variables, images, key, tmp_path)
    assert set(known.outputs) == set(known.forms) == set(known.output_roots)
    for path, patches in known.centred.patches.items():
        assert np.trace(patches[0]) <= np.trace(known.inputs.patches[path][0])
    again = study.learn(network.apply, network.variables, images, jax.random.key(1), tmp_path)
    for path in known.forms:
        np.testing.assert_array_equal(again.outputs[path], known.outputs[path])


def test_missing_data_is_said_before_any_work(tmp_path: Path) -> None:
    config = dataclasses.replace(Config(), workdir=tmp_path)
    with pytest.raises(ValueError, match="pass --weights and --data-dir"):
        prepare(config, jax.random.key(0))
