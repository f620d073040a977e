"""Variables split over devices: nothing is gathered, and every step leaves them where they lie."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxcompress as jc
from jaxcompress import layouts, parallel
from jaxcompress.compression.take import program_of, take_leaves
from jaxcompress.training import (
    evaluate,
    init_state,
    jit_step,
    restore_checkpoint,
    saving_behind,
    train_step,
)
from tests.laws import close
from tests.split_variables import (
    GRAPH,
    IMAGES,
    KEY,
    LABELS,
    MESHES,
    TX,
    VARIABLES,
    apply,
    check_split,
    drawn,
    each_mesh,
    forward,
    loss,
    same,
    share_of,
    split_over,
)

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")


@pytest.mark.parametrize(("axis", "count"), [(0, 32), (0, 30), (1, 16), (1, 13)])
@pytest.mark.parametrize("along", [0, 1])
def test_no_device_holds_a_whole_leaf_while_it_is_taken(axis: int, count: int, along: int) -> None:
    mesh = MESHES["the batch's axis"]
    spec = P(*[None] * along, "data")
    leaf = jax.device_put(drawn(0, 64, 32), NamedSharding(mesh, spec))
    indices = {"leaf": {axis: np.random.default_rng(0).permutation(leaf.shape[axis])[:count]}}
    taken = take_leaves({"leaf": leaf}, indices)["leaf"]
    np.testing.assert_array_equal(taken, np.take(np.asarray(leaf), indices["leaf"][axis], axis))
    assert share_of(taken) == 1 / 8
    compiled = program_of({"leaf": leaf}, indices).lower({"leaf": leaf}, indices).compile()
    arrays = re.findall(r"f32\[([\d,]+)\]", compiled.as_text())
    assert max(np.prod([int(size) for size in array.split(",")]) for array in arrays) <= 64 * 32 / 8


def test_what_nothing_divides_is_whole() -> None:
    mesh = MESHES["the batch's axis"]
    narrow = jax.device_put(drawn(0, 64, 3), NamedSharding(mesh, P("data")))
    indices = {"leaf": {0: np.arange(30)}}
    taken = take_leaves({"leaf": narrow}, indices)["leaf"]
    same(taken, narrow[:30])
    assert taken.sharding.is_fully_replicated


@each_mesh
def test_steps_leave_variables_where_they_lie(mesh: Mesh, tmp_path: Path) -> None:
    split = split_over(mesh)
    batch = {"image": IMAGES, "label": LABELS}
    plain, step = jax.jit(train_step(loss, TX)), jit_step(train_step(loss, TX), mesh)
    desired, state = init_state(VARIABLES, TX), init_state(split, TX)
    with saving_behind(tmp_path / "run") as save:
        for number in range(3):
            desired, _ = plain(desired, batch, KEY)
            state, _ = step(state, parallel.shard_batch(batch, mesh), KEY)
            save(state, step=number)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), state, desired
    )
    for tree in (state.variables, state.opt_state[0].mu, state.opt_state[0].nu):
        check_split(tree, mesh)
    restored = restore_checkpoint(tmp_path / "run", init_state(split, TX))
    same(restored, state)
    check_split(restored.opt_state[0].nu, mesh)
    whole = evaluate(apply, desired.variables, IMAGES, LABELS, batch_size=8, mesh=mesh)
    parts = evaluate(apply, state.variables, IMAGES, LABELS, batch_size=8, mesh=mesh)
    assert parts == pytest.approx(whole, rel=1e-4)


def test_a_batch_is_split_over_the_first_axis_alone() -> None:
    mesh = MESHES["a second axis"]
    step = jit_step(train_step(loss, TX), mesh)
    batch = parallel.shard_batch({"image": IMAGES[:6], "label": LABELS[:6]}, mesh)
    assert share_of(batch["image"]) == 1 / 2
    step(init_state(VARIABLES, TX), batch, KEY)
    with pytest.raises(ValueError, match=r"split over 2 devices .*'label': \(3,\)"):
        step(init_state(VARIABLES, TX), {"image": IMAGES[:3], "label": LABELS[:3]}, KEY)


def test_what_lies_elsewhere_goes_to_every_device() -> None:
    one, other = MESHES.values()
    leaf = jax.device_put(drawn(0, 8, 8), NamedSharding(other, P("data")))
    assert layouts.placed(leaf, other) is leaf
    assert layouts.placed(leaf, one).sharding.is_fully_replicated


@each_mesh
def test_scores_and_statistics_are_the_same(mesh: Mesh) -> None:
    split = split_over(mesh)

    def mean_loss(variables: Any, batch: Any) -> jax.Array:
        logits = apply(variables, batch["image"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    def train_apply(variables: Any, images: jax.Array, key: jax.Array) -> Any:
        logits, mean = forward(variables, images, train=True)
        return logits, {"batch_stats": {"mean": mean}}

    batches = [{"image": IMAGES, "label": LABELS}]
    placed = [parallel.shard_batch(batch, mesh) for batch in batches]
    close(
        dict(jc.importance.magnitude(GRAPH, split)),
        dict(jc.importance.magnitude(GRAPH, VARIABLES)),
        1e-5,
    )
    close(
        dict(jc.importance.taylor(GRAPH, mean_loss, split, placed)),
        dict(jc.importance.taylor(GRAPH, mean_loss, VARIABLES, batches)),
        1e-4,
    )
    renewed = jc.training.reestimate(train_apply, split, [placed[0]["image"]], key=KEY)
    desired = jc.training.reestimate(train_apply, VARIABLES, [IMAGES], key=KEY)
    close(renewed, desired, 1e-5)
    check_split(renewed, mesh)
