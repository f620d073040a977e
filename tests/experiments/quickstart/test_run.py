"""The quickstart runs end to end, on a small network, and leaves what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import pytest

import jaxcompress as jc
from experiments.common import data, report
from experiments.prune import run as prune
from experiments.prune.settings import Config as PruneConfig
from experiments.quickstart import run as quickstart
from experiments.quickstart.settings import Config
from jaxcompress import parallel
from jaxcompress.files import locked


def test_quickstart_leaves_report_picture_and_artifacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Eight simulated devices on few cores take minutes; tests of the loop compare one with eight.
    one = parallel.mesh(jax.devices()[:1])
    monkeypatch.setattr(quickstart.parallel, "mesh", lambda: one)
    digits = data.first(data.load("digits"), train_images=128, test_images=64)
    monkeypatch.setattr(quickstart.data, "load", lambda name: digits)
    monkeypatch.setattr(quickstart, "NETWORK", ("resnet8", {"num_classes": 10, "width": 4}))
    config = Config(workdir=tmp_path, teacher_epochs=1, student_epochs=1, batch_size=16)
    rows = quickstart.main(config)
    written = json.loads((tmp_path / "report.json").read_text())
    report.validate(written)
    assert [row["name"] for row in written["rows"]] == [row.name for row in rows]
    teacher, student = rows[0], rows[-1]
    assert student.flops and teacher.flops and student.bytes and teacher.bytes
    assert student.flops <= 0.5 * teacher.flops and student.bytes < teacher.bytes
    assert (tmp_path / "quickstart.png").read_bytes().startswith(b"\x89PNG")
    told = written["rows"][-1]["details"]
    assert sum(g["after"] for g in told["groups"]) < sum(g["before"] for g in told["groups"])
    assert told["frozen"] and told["curves"][0]["epochs"] == [1]
    shown = (tmp_path / "report.html").read_text()
    assert all(group["name"] in shown for group in told["groups"])
    _, variables = jc.load(tmp_path / "student")
    assert set(variables) == {"params", "batch_stats"}


def test_a_folder_has_one_run_at_a_time(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    with locked(tmp_path):
        with pytest.raises(BlockingIOError, match="held by process"):
            quickstart.main(Config(workdir=tmp_path))
        with pytest.raises(BlockingIOError, match="held by process"):
            prune.main(PruneConfig(weights, tmp_path, workdir=tmp_path))
