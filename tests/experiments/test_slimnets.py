"""SlimNets: rows in the order they need each other, their loss and schedule, one end to end."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from experiments import slimnets
from experiments.slimnets_rows import PRESETS, RECIPES, Recipe, with_starts
from jaxcompress import models, parallel


def test_every_row_of_the_paper_is_there_and_can_be_made() -> None:
    order = with_starts(tuple(RECIPES))
    assert sorted(order) == sorted(RECIPES)
    reported = [recipe for recipe in RECIPES.values() if recipe.paper is not None]
    assert len(reported) == 1 + 1 + 6 + 12 + 3
    for name, recipe in RECIPES.items():
        models.build(recipe.network)
        needed = [n for n in (recipe.start, "teacher" if recipe.distils else None) if n]
        assert all(order.index(other) < order.index(name) for other in needed)
    with pytest.raises(ValueError, match="rows are teacher.*not \\['kd'\\]"):
        with_starts(["kd"])


def test_the_paper_preset_prunes_for_100_000_steps() -> None:
    preset = PRESETS["paper"]
    steps = preset.prune_epochs * (50_000 // preset.prune_batch_size)
    schedule = slimnets.schedule_of(RECIPES["gradual-0.75"], steps)
    assert (steps, schedule.end, schedule.every, len(schedule.levels)) == (
        100_000,
        50_000,
        500,
        101,
    )
    assert slimnets.schedule_of(RECIPES["one-shot-0.75"], steps).levels == (0.75,)


def test_the_loss_is_that_of_the_papers_code() -> None:
    random = np.random.default_rng(0)
    student, teacher = (jnp.asarray(random.normal(size=(6, 10)), jnp.float32) for _ in range(2))
    labels = jnp.arange(6)
    echo = lambda variables, images, key=None: (images, {})  # noqa: E731
    made = slimnets.Made(("nin", {}), lambda v, x: x, echo, {}, jc.chain())
    online = slimnets.Made(("nin", {}), lambda v, x: teacher, echo, {}, jc.chain())
    task = slimnets.Task(
        PRESETS["paper"], slimnets.load(PRESETS["smoke"], None), None, Path(), seed=0
    )
    loss, _, _ = slimnets.objective(made, online, task)
    value, _ = loss({"student": {}, "teacher": {}}, {"image": student, "label": labels}, None)
    # nn.KLDivLoss()(log_softmax(s / T), softmax(t / T)) * (T * T * 2 * alpha) + CE * (1 - alpha),
    # averaged over all elements.
    soft, target = jax.nn.log_softmax(student / 20), jax.nn.softmax(teacher / 20)
    divergence = (target * (jnp.log(target) - soft)).mean()
    entropy = -jax.nn.log_softmax(student)[jnp.arange(6), labels].mean()
    assert float(value) == pytest.approx(float(divergence * 400 * 1.4 + entropy * 0.3), rel=1e-5)


def test_a_row_is_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = dataclasses.replace(
        PRESETS["smoke"], train_images=64, prune_batch_size=32, batch_size=32,
        widths={"nin": {"width": 6}},
    )  # fmt: skip
    recipes = {
        "nin": Recipe("nin"),
        "pruned": Recipe("nin", 0.5, "nin", sparsity=0.75, gradual=True, values="int8"),
        "teacher": RECIPES["teacher"],
    }
    monkeypatch.setattr(slimnets, "RECIPES", recipes)
    dataset = slimnets.load(tiny, None)
    task = slimnets.Task(tiny, dataset, parallel.mesh(), tmp_path, seed=0)
    for name in ("nin", "pruned"):
        assert slimnets.finished(name, task) is None
        row = slimnets.make(name, task)
        assert slimnets.finished(name, task) == row
    dense = slimnets.finished("nin", task)
    assert dense is not None and row["num_params"] == dense["num_params"]
    assert row["num_nonzero"] < 0.35 * dense["num_nonzero"]
    summary = jc.artifact.inspect(tmp_path / "pruned")
    assert summary["bytes"] == row["bytes"] and summary["kinds"] == ["sparsify"]
    averaged = slimnets.averaged("pruned", [row, {**row, "accuracy": 1.0}], dense=10_000)
    assert averaged.extra["seeds"] == 2 and averaged.extra["paper_accuracy"] == 0.5
    slimnets.show([averaged])
