"""Every stage on generated JPEGs, once; going on in the middle; what a real folder is read as."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import jaxcompress as jc
from experiments.common import environment, report
from experiments.common.projection import Pace
from experiments.imagenet import learning, paces, projection, run
from experiments.imagenet.measuring import classified
from experiments.imagenet.network import network_of, trained
from experiments.imagenet.reading import load
from experiments.imagenet.settings import PRESETS, Config, Scoring
from jaxcompress import models, parallel
from tests.experiments.common.streaming.jpegs import write_jpegs

SHARED = os.environ.get("JAXCOMPRESS_SHARED")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("imagenet")
    options = {"num_classes": 4, "width": 4}
    module = models.build("resnet8", **options)
    variables = models.initialize(module, jax.random.key(0), (1, 16, 16, 3))
    jc.save(folder / "weights", jc.chain(), variables, network=("resnet8", options))
    return Config(
        network="resnet8",
        network_config={"width": 4},
        weights=folder / "weights",
        dtype="float32",
        dataset="folder",
        data_dir=write_jpegs(folder / "jpegs", classes=4, each=8),
        image_size=16,
        flops=0.6,
        multiple_of=1,
        scoring=Scoring(2, 8, 2, 8, 16, 16),
        top_k=2,
        epochs=4,
        warmup_epochs=1,
        batch_size=8,
        accumulate_steps=2,
        ema=0.5,
        save_steps=3,
        threads=1,
        workdir=folder / "run",
    )


@pytest.fixture(scope="module", autouse=True)
def one_device() -> Iterator[None]:
    """Eight simulated devices take twice the time; tests of the loop compare one with eight."""
    one, made = jax.devices()[:1], parallel.mesh
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "prepare", lambda **_: None)
        patch.setattr(parallel, "mesh", lambda devices=None: made(one))
        yield


@pytest.fixture(scope="module")
def rows(config: Config, one_device: None) -> list[report.Row]:
    """Run every stage, once for all tests."""
    return run.main(config)


def test_every_stage_is_done_once_and_told(config: Config, rows: list[report.Row]) -> None:
    assert [row.name for row in rows] == ["teacher", "pruned", "student"]
    assert rows[0].flops and rows[2].flops and rows[2].flops <= 0.6 * rows[0].flops
    first = json.loads((config.workdir / "report.json").read_text())
    stages = {stage["name"]: stage for stage in first["stages"]}
    assert list(stages) == [
        "teacher", "knowledge", "gates", "shrink", "fine-tune", "measure-pruned", "measure-student"
    ]  # fmt: skip
    assert stages["knowledge"]["views"] == 2 * 16 and stages["knowledge"]["megabytes"] > 0
    assert (config.workdir / "report.html").exists()
    function, variables = jc.load(config.workdir / "student")
    assert function(variables, np.zeros((1, 16, 16, 3), np.float32)).shape == (1, 4)
    run.main(config)
    again = json.loads((config.workdir / "report.json").read_text())
    assert again["rows"] == first["rows"] and again["stages"] == first["stages"]
    with pytest.raises(ValueError, match="flops: 0.6 there, 0.5 here"):
        run.main(dataclasses.replace(config, flops=0.5))


@pytest.mark.parametrize("is_killed", [True, False])
def test_an_interrupted_lesson_ends_as_one_that_was_not(
    config: Config,
    rows: list[report.Row],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_killed: bool,
) -> None:
    """Stopped in the middle of the third epoch, it goes on with the batches that are left."""
    again = dataclasses.replace(config, workdir=tmp_path / "again")
    later = ("lesson", "student", "stage-fine-tune.json", "stage-measure*")
    shutil.copytree(config.workdir, again.workdir, ignore=shutil.ignore_patterns(*later))
    update, given = learning._update, []

    def failing(*arguments: Any) -> Any:
        run_update = update(*arguments)

        def one(state: Any, batch: Any, key: Any) -> Any:
            given.append(np.asarray(batch["example"]).tolist())
            if len(given) == 6 and is_killed:
                raise KeyboardInterrupt
            if len(given) == 5 and not is_killed:
                os.kill(os.getpid(), signal.SIGTERM)
            return run_update(state, batch, key)

        return one

    monkeypatch.setattr(learning, "_update", failing)
    with pytest.raises(KeyboardInterrupt if is_killed else SystemExit):
        run.main(again)
    run.main(again)
    if is_killed:
        # Updates 4 and 5 came after the checkpoint, and are done again; 6 was never done.
        assert given[3:6] == given[6:9] and len(given) == 6 + (8 - 3)
    else:
        assert len(given) == 8  # the fifth was saved when the process was asked to stop
    ends = [jc.load(c.workdir / "student")[1] for c in (config, again)]
    jax.tree.map(np.testing.assert_array_equal, *ends)


def test_what_does_not_fit_is_refused_together(config: Config, tmp_path: Path) -> None:
    fresh = dataclasses.replace(config, workdir=tmp_path / "run")
    with pytest.raises(ValueError) as error:
        run.main(dataclasses.replace(fresh, weights=None, data_dir=tmp_path / "nowhere"))
    for part in ("weights: nothing is named", "nowhere is not there"):
        assert part in str(error.value)
    with pytest.raises(ValueError) as error:
        run.main(dataclasses.replace(fresh, batch_size=64, top_k=4, distillation=0.0))
    for part in ("batch_size=64", "there are 16", "top_k=4", "distillation=0"):
        assert part in str(error.value)
    assert not fresh.workdir.exists()


def test_hours_are_projected_with_their_arithmetic(tmp_path: Path) -> None:
    rows = run.main(dataclasses.replace(PRESETS["resnet50"][1], project=True, workdir=tmp_path))
    assert {"v5e", "H100"} <= {row.name for row in rows}
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["config"]["paper_device_hours"] == 199
    fast = paces.Device("chip", Pace(10_000.0, 5_000.0), "made up")
    result = projection.projected(Config(threads=10), fast, decoded=250.0)
    # Ten cores read 2,500 images a second, half of what the device would take.
    assert result.hours["fine-tune"] == pytest.approx(100 * 1_281_167 / 2_500 / 3600)
    assert "20.0 in the lesson, 40.0 for knowledge" in result.lines[-1]


def test_a_device_that_is_here_is_timed(config: Config) -> None:
    device = paces.measured(config)
    assert device.pace.forward > device.pace.step > 0 and "measured" in device.basis


def test_the_presets_are_at_the_budget_of_the_paper() -> None:
    budgets = {name: preset.flops for name, (_, preset) in PRESETS.items()}
    assert budgets["resnet50"] == budgets["efficientnet_lite0"] == pytest.approx(1 - 0.552)


@pytest.mark.skipif(SHARED is None, reason="JAXCOMPRESS_SHARED is not set")
def test_published_weights_know_real_images() -> None:
    shared = Path(str(SHARED))
    config = dataclasses.replace(
        PRESETS["sample"][1],
        data_dir=shared / "imagenet_sample",
        weights=shared / "weights" / "efficientnet_lite0_imagenet.safetensors",
        test_images=12,
    )
    data = load(config)
    facts = classified(data, trained(config, network_of(config, data.train.num_classes)))
    assert facts["count"] == 12 and facts["accuracy"] >= 0.6
