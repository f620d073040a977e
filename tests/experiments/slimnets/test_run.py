"""SlimNets: rows in the order they need each other, their loss and schedule, one end to end."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from experiments.common import data, score
from experiments.common.network import Network
from experiments.common.report import Row
from experiments.slimnets import making, run
from experiments.slimnets import table as slimnets_table
from experiments.slimnets.making import Series
from experiments.slimnets.network import compressed, dense_params, folded, start
from experiments.slimnets.presets import PRESETS, recipes_of
from experiments.slimnets.rows import PUBLISHED, RECIPES, Recipe, needed, with_starts
from experiments.slimnets.training import objective, schedule_of, sparsity_for
from jaxcompress import models, parallel, sparse
from jaxcompress.annotations import Array, PyTree
from jaxcompress.artifact import Encoding

# Tests of the loop compare one device with eight, which take longer.
ONE = parallel.mesh(jax.devices()[:1])


def test_every_row_of_the_paper_is_there_and_can_be_made() -> None:
    order = with_starts(tuple(RECIPES))
    assert sorted(order) == sorted(RECIPES)
    reported = [recipe for recipe in RECIPES.values() if recipe.paper is not None]
    assert len(reported) == 1 + 1 + 6 + 12 + 3
    for preset in PRESETS.values():
        recipes = recipes_of(preset)
        order = with_starts(tuple(recipes), recipes)
        for name, recipe in recipes.items():
            models.build(recipe.network, **preset.configs.get(recipe.network, {}))
            assert all(order.index(other) < order.index(name) for other in needed(recipe))
    assert with_starts(["resnet20-170x"], PUBLISHED) == ["resnet20", "resnet56", "resnet20-170x"]
    with pytest.raises(ValueError, match="rows are teacher.*not \\['kd'\\]"):
        with_starts(["kd"])


def test_the_paper_preset_prunes_for_100_000_steps() -> None:
    preset = PRESETS["paper"]
    steps = preset.prune_epochs * (50_000 // preset.prune_batch_size)
    schedule = schedule_of(RECIPES["gradual-0.75"], 0.75, steps)
    assert (steps, schedule.end, schedule.every, len(schedule.levels)) == (
        100_000,
        50_000,
        500,
        101,
    )
    assert schedule_of(RECIPES["one-shot-0.75"], 0.75, steps).levels == (0.75,)


def test_the_loss_is_that_of_the_papers_code() -> None:
    random = np.random.default_rng(0)
    student, teacher = (jnp.asarray(random.normal(size=(6, 10)), jnp.float32) for _ in range(2))
    labels = jnp.arange(6)

    def echo(variables: PyTree, images: Array, key: Array = None) -> tuple[Array, PyTree]:
        return images, {}

    made = Network(("nin", {}), lambda v, x: x, echo, {}, jc.chain())
    online = Network(("nin", {}), lambda v, x: teacher, echo, {}, jc.chain())
    dataset = run.load(PRESETS["smoke"], None)
    loss, _, _ = objective(made, online, dataset, online=True)
    value, _ = loss({"student": {}, "teacher": {}}, {"image": student, "label": labels}, None)
    # nn.KLDivLoss()(log_softmax(s / T), softmax(t / T)) * (T * T * 2 * alpha) + CE * (1 - alpha),
    # averaged over all elements.
    soft, target = jax.nn.log_softmax(student / 20), jax.nn.softmax(teacher / 20)
    divergence = (target * (jnp.log(target) - soft)).mean()
    entropy = -jax.nn.log_softmax(student)[jnp.arange(6), labels].mean()
    assert float(value) == pytest.approx(float(divergence * 400 * 1.4 + entropy * 0.3), rel=1e-5)


def test_a_folded_batch_norm_changes_nothing() -> None:
    random = np.random.default_rng(0)
    normed, plain = (models.build(name, width=2) for name in ("vgg19_bn", "vgg19"))
    shape = (4, 32, 32, 3)
    variables = models.initialize(normed, jax.random.key(0), shape)
    leaves, treedef = jax.tree.flatten(variables)
    drawn = [leaf + 0.2 * np.abs(random.normal(size=leaf.shape)) for leaf in leaves]
    variables = jax.tree.map(jnp.float32, jax.tree.unflatten(treedef, drawn))
    images = jnp.asarray(random.normal(size=shape), jnp.float32)
    expected = models.evaluation_function(normed)(variables, images)
    merged = folded(variables)
    shapes = models.initialize(plain, jax.random.key(0), shape)
    assert jax.tree.map(jnp.shape, merged) == jax.tree.map(jnp.shape, shapes)
    np.testing.assert_allclose(
        models.evaluation_function(plain)(merged, images), expected, rtol=1e-4
    )
    assert float(jnp.abs(expected).max()) > 1e-2 and float(jnp.std(expected, axis=0).max()) > 0


def test_170_times_fewer_parameters_and_bytes_at_the_papers_widths(tmp_path: Path) -> None:
    """What masks leave of the full NIN, biases counted, and what that takes on disk."""
    dense = 20_554_826
    module = models.build("nin")
    variables = models.initialize(module, jax.random.key(0), (1, 32, 32, 3))
    variables = jax.tree.map(lambda leaf: leaf + (leaf.ndim == 1), variables)
    sparsity = sparsity_for(variables, int(dense / 170))
    assert 0.875 < sparsity < 0.88
    for scope in ("erk", "global"):
        made = jc.sparsify(variables, sparse.make_masks(variables, sparsity, scope=scope))
        small = made.variables(variables)
        count = sum(int((leaf != 0).sum()) for leaf in jax.tree.leaves(small))
        assert count == int(dense / 170) and dense / count >= 170
    jc.save(tmp_path, made, small, network=("nin", {}), encoding=Encoding("int8"))
    assert 4 * dense / jc.artifact.num_bytes(tmp_path) > 400
    with pytest.raises(ValueError, match="1418 of 1000 are biases"):
        sparsity_for(variables, 1000)


def test_a_row_is_made_once_and_kept(tmp_path: Path) -> None:
    tiny = dataclasses.replace(
        PRESETS["smoke"], train_images=64, prune_batch_size=32, batch_size=32,
        configs={"nin": {"width": 6}},
    )  # fmt: skip
    recipes = {
        "nin": Recipe("nin"),
        "pruned": Recipe("nin", 0.5, start="nin", sparsity=0.75, gradual=True, values="int8"),
        "small": Recipe("nin", start="nin", fewer=100.0, scope="erk"),
        "teacher": RECIPES["teacher"],
    }
    series = Series(tiny, recipes, run.load(tiny, None), ONE, tmp_path, seed=0)
    made = {}
    for name in ("nin", "pruned", "small"):
        assert making.finished(name, series) is None
        made[name] = [making.make(name, series)]
        assert making.finished(name, series) == made[name][0]
    (dense,), (row,), (small,) = made.values()
    assert making.finished_or_made("nin", series) == dense
    check_refusals(series, tmp_path / "nin" / "row.json")
    assert row["num_params"] == dense["num_params"]
    assert row["num_nonzero"] < 0.35 * dense["num_nonzero"]
    assert small["num_nonzero"] <= dense_params(tiny, series.dataset) / 100
    summary = jc.artifact.inspect(tmp_path / "pruned")
    assert summary["bytes"] == row["bytes"] and summary["kinds"] == ["sparsify"]


def check_refusals(series: Series, file: Path) -> None:
    """A row that is damaged, of other inputs or of other code is refused, and named."""
    smaller = data.first(series.dataset, train_images=32)
    others = {
        "data: ": series._replace(dataset=smaller),
        "preset: ": series._replace(preset=dataclasses.replace(series.preset, epochs=99)),
        "recipe: ": series._replace(recipes={**series.recipes, "nin": Recipe("nin", rate=0.2)}),
    }
    for fact, other in others.items():
        with pytest.raises(ValueError, match=f"row.json {fact}.*delete .*nin to make the row"):
            making.finished("nin", other)
    whole = file.read_text()
    assert making.finished("pruned", series)
    other_code = whole.replace(json.loads(whole)["inputs"]["code"], "other")
    for text, fact in ((other_code, "code: other there"), ("", "damaged"), ("{}", "no inputs")):
        file.write_text(text)
        with pytest.raises(ValueError, match=f"row.json .*{fact}.*delete .*nin to make the row"):
            making.finished("nin", series)
        # What started from the row was made of another one.
        with pytest.raises(ValueError, match="pruned/row.json rows: "):
            making.finished("pruned", series)
    file.write_text(whole)


def test_a_row_continues_what_another_removed(tmp_path: Path) -> None:
    tiny = dataclasses.replace(
        PRESETS["smoke"], train_images=96, batch_size=32, episodes=1, configs={"nin": {"width": 6}}
    )
    recipes = {
        "gated": Recipe("nin", flops=0.5),
        "pruned": Recipe("nin", start="gated", sparsity=0.5),
    }
    tiny = dataclasses.replace(tiny, prune_batch_size=32)
    series = Series(tiny, recipes, run.load(tiny, None), ONE, tmp_path, seed=0)
    rows = [making.make(name, series) for name in recipes]
    assert jc.artifact.inspect(tmp_path / "pruned")["kinds"] == ["shrink", "sparsify"]
    assert rows[0]["num_params"] == rows[1]["num_params"] < dense_params(tiny, series.dataset)
    assert rows[1]["num_nonzero"] < 0.6 * rows[0]["num_nonzero"]


def test_the_table_sets_rows_beside_the_papers() -> None:
    one = {
        "seed": 0, "accuracy": 0.5, "num_params": 100, "num_nonzero": 100, "flops": 1, "bytes": 400,
        "cpu_seconds": 1.0, "environment": {"commit": "a"},
    }  # fmt: skip
    small = {**one, "accuracy": 0.49, "num_nonzero": 1, "bytes": 4}
    by_name = {
        "teacher": [one, {**one, "seed": 1, "accuracy": 0.4}],
        "kd-nin": [small, {**small, "seed": 1, "accuracy": 0.36}],
        "nin": [],
    }
    teacher, student = slimnets_table.averaged(by_name, RECIPES, dense=200)
    assert isinstance(teacher, Row) and teacher.extra["relative_accuracy"] == 1
    assert teacher.accuracy == pytest.approx(0.45)
    assert student.extra["relative_accuracy"] == pytest.approx((0.98 + 0.9) / 2)
    assert student.extra["fewer_params"] == student.extra["fewer_bytes"] == 200
    text = slimnets_table.markdown([teacher, student])
    assert "| kd-nin | 90.57% | 98.0% | 20.7 | 42.50% ± 9.19 | 94.0% |" in text
    assert text.endswith("kd-nin: 94.0 % at 200.0x and 200.0x. Missed by 2.0 points.\n")
    assert "No row is that small" in slimnets_table.goal([teacher])


def test_published_weights_are_rows_to_start_from(tmp_path: Path, shared: Path) -> None:
    preset = PRESETS["published"]
    digits = run.load(PRESETS["smoke"], None)
    colours = digits.train_images.repeat(3, axis=-1)
    dataset = dataclasses.replace(digits, train_images=colours, test_images=colours)

    def begin(weights: Path | None) -> Network:
        return start(PUBLISHED["resnet20"], preset, dataset, tmp_path, weights, jax.random.key(0))

    made = begin(shared / "weights")
    assert sum(leaf.size for leaf in jax.tree.leaves(made.variables["params"])) == 269_722
    with pytest.raises(ValueError, match="resnet20_cifar10.safetensors.*--weights-dir"):
        begin(None)


def test_learned_gates_remove_channels_of_a_published_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROUNDS", "LEARN_STEPS"):
        monkeypatch.setattr(score, name, 2)
    for name in ("IMAGES", "LEARN_IMAGES"):
        monkeypatch.setattr(score, name, 16)
    preset = dataclasses.replace(PRESETS["published"], configs={"resnet8": {"width": 4}})
    dataset = run.load(PRESETS["smoke"], None)
    recipe = Recipe("resnet8", flops=0.6)
    key = jax.random.key(0)
    whole = start(recipe, preset, dataset, tmp_path, None, key)
    made = compressed(recipe, whole, preset, dataset, key)
    image = data.image_shape(dataset)
    before, after = (jc.trace(network.apply, network.variables, image) for network in (whole, made))
    assert 0.4 * before.flops < after.flops <= 0.6 * before.flops


def test_without_a_teacher_row_accuracies_are_relative_to_the_papers() -> None:
    one = {
        "seed": 0, "accuracy": 0.924, "num_params": 100, "num_nonzero": 1, "flops": 1, "bytes": 4,
        "cpu_seconds": 1.0, "environment": {"commit": "a"},
    }  # fmt: skip
    rows = slimnets_table.averaged({"resnet20-170x": [one]}, PUBLISHED, dense=200)
    assert rows[0].extra["relative_accuracy"] == pytest.approx(1)
    assert "Reached" in slimnets_table.goal(rows)
