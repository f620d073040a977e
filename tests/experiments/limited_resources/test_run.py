"""Paper (1) whole at toy size: every way to teach, every stage once, gone on with where it was."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import get_args

import jax
import jax.numpy as jnp
import pytest

import jaxcompress as jc
from experiments.common import data, student_stages, teacher
from experiments.common.distill import Method
from experiments.common.lessons import Dense, lesson
from experiments.limited_resources import run
from experiments.limited_resources.settings import PRESETS, Config
from jaxcompress import models, parallel
from jaxcompress.knowledge import Views
from jaxcompress.prune import importance

TINY = Config(
    network="resnet14",
    network_config={"width": 2},
    features="stage3_block1",
    before_features="stage3_block0",
    dataset="digits",
    views=Views(pad=1, flip=False),
    flops=0.6,
    streams=False,
    importance="magnitude",
    method="crossed",
    teacher_epochs=1,
    student_epochs=1,
    batch_size=64,
    train_images=128,
    test_images=64,
    statistics_images=128,
)


def test_every_way_to_teach_has_a_loss(tmp_path: Path) -> None:
    config, key = dataclasses.replace(TINY, workdir=tmp_path), jax.random.key(0)
    dataset = teacher.dataset_of(config)
    name, options = teacher.network_of(config, dataset)
    module, image = models.build(name, **options), data.image_shape(dataset)
    variables = models.initialize(module, key, image.shape)
    graph = jc.trace(models.evaluation_function(module), variables, image)
    groups = jc.graph.internal_groups(graph)
    scores = {name: importance.magnitude(graph, variables)[name] for name in groups}
    dense = Dense(graph, jc.select(graph, scores, jc.Budget(flops=0.6)), variables)
    small = jc.shrink(graph, dense.keep).variables(variables)
    do = lambda name, work, files: work()  # noqa: E731
    for method in ("logits", "crossed"):
        student_stages.store_knowledge(config, method, module, variables, dataset, do)
    for method in get_args(Method):
        taught = lesson(method, config, module, dense, small, dataset, key)
        assert bool(taught.assistant) == (method in ("assistant", "crossed"))
        numbers = jnp.arange(4)
        batch = {name: jnp.asarray(array[:4]) for name, array in taught.extra.items()}
        view = numbers if taught.view_of is None else taught.view_of(numbers, jnp.int32(1))
        batch |= {"image": jnp.ones((4, 8, 8, 1)), "label": numbers, "view": view}
        both = {"student": small, "assistant": taught.assistant}
        loss = jax.eval_shape(lambda *args, bound=taught: bound.loss(*args, key)[0], both, batch)
        assert loss.shape == () and loss.dtype == jnp.float32


def test_every_stage_is_done_once_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Eight simulated devices take twice the time; tests of the loop compare one with eight.
    one = parallel.mesh(jax.devices()[:1])
    monkeypatch.setattr(run.parallel, "mesh", lambda *_: one)
    config = dataclasses.replace(
        TINY,
        network="resnet8",
        features="stage3_block0",
        before_features="stage2_block0",
        accumulate_steps=2,
        workdir=tmp_path,
    )
    rows = run.main(config)
    assert [row.name for row in rows] == ["teacher", "pruned", "student"]
    assert rows[0].flops and rows[2].flops
    assert rows[1].flops == rows[2].flops <= 0.6 * rows[0].flops
    first = json.loads((tmp_path / "crossed" / "report.json").read_text())
    stages = first["config"]["stages"]
    assert sorted(stages) == sorted(["teacher", "knowledge", "gates", "shrink", "fine-tune"])
    assert all(stage["device_hours"] > 0 and stage["cpu_seconds"] > 0 for stage in stages.values())
    assert {stage["name"]: stage["seconds"] for stage in first["stages"]} == {
        name: stage["seconds"] for name, stage in stages.items()
    }
    groups = first["rows"][2]["details"]["groups"]
    assert sum(g["after"] for g in groups) < sum(g["before"] for g in groups)
    assert (tmp_path / "crossed" / "report.html").exists()
    assert jc.load(tmp_path / "crossed" / "artifacts" / "student")[0] is not None
    run.main(config)
    again = json.loads((tmp_path / "crossed" / "report.json").read_text())
    assert again["config"]["stages"] == stages
    assert again["rows"][2]["accuracy"] == first["rows"][2]["accuracy"]
    with pytest.raises(ValueError, match="flops: 0.6 there, 0.5 here"):
        run.main(dataclasses.replace(config, flops=0.5))
    other = run.main(dataclasses.replace(config, method="none"))
    assert other[0].accuracy == rows[0].accuracy
    assert json.loads((tmp_path / "crossed" / "report.json").read_text()) == again
    assert (tmp_path / "none" / "limited_resources.png").exists()
    damage(tmp_path / "teacher")
    with pytest.raises(ValueError, match="teacher: .* since stage teacher"):
        run.main(config)


def test_settings_that_do_not_fit_are_refused_together(tmp_path: Path) -> None:
    config = dataclasses.replace(
        TINY, workdir=tmp_path / "run", stored_views=1, statistics_images=10, features="stage9"
    )
    with pytest.raises(ValueError) as error:
        run.main(config)
    for part in ("statistics_images", "stored_views=1", "no ['stage9']"):
        assert part in str(error.value)
    assert not (tmp_path / "run").exists()


def damage(folder: Path) -> None:
    """Flip one bit of the largest file in a folder."""
    file = max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda f: f.stat().st_size
    )
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_weights_and_data_are_settings_by_what_they_hold(tmp_path: Path) -> None:
    def settings(config: Config) -> dict[str, object]:
        dataset = data.load("digits")
        if config.data_dir is not None:
            labels = dataset.test_labels[::-1]
            dataset = dataclasses.replace(dataset, test_labels=labels)
        return student_stages.settings_of(config, dataset, run.FREE)

    first, same, other = (tmp_path / name for name in ("a", "b", "c"))
    for file, content in ((first, b"1"), (same, b"1"), (other, b"2")):
        file.write_bytes(content)
    variants = [settings(dataclasses.replace(TINY, weights=x)) for x in (None, first, same, other)]
    assert variants[0]["weights"] is None and variants[1] == variants[2]
    assert variants[0] != variants[1] != variants[3] != variants[0]
    moved = settings(dataclasses.replace(TINY, data_dir=tmp_path))
    assert moved["data"] != variants[0]["data"]


def test_the_presets_are_those_of_the_papers() -> None:
    budgets = {name: preset.flops for name, (_, preset) in PRESETS.items()}
    assert budgets["cifar10_resnet56"] == budgets["cifar10_mobilenet_v2"] == 0.45
    assert budgets["imagenet_resnet50"] == pytest.approx(1 - 0.552)
