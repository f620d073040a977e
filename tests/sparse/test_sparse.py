"""Training under masks: exact zeros, exact counts, one compilation, on any number of devices."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from jaxcompress import sparse
from jaxcompress.compression.optimizer_state import map_optimizer_state
from jaxcompress.parallel import mesh
from jaxcompress.sparse import NofM
from jaxcompress.sparse.schedule import cubic, one_shot, periodic
from jaxcompress.training import init_state, jit_step, train_step
from tests.trees import structure_of

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(16, 8)), jnp.float32)
SIZES = {"params/first/kernel": 8 * 12, "params/second/kernel": 12 * 4}


def fresh() -> Any:
    random = np.random.default_rng(1)
    draw = lambda *shape: jnp.asarray(random.normal(size=shape), jnp.float32)  # noqa: E731
    return {
        "params": {
            "first": {"kernel": draw(8, 12), "bias": draw(12)},
            "second": {"kernel": draw(12, 4), "bias": draw(4)},
        },
        "batch_stats": {"mean": jnp.zeros(3)},
    }


def loss(variables: Any, batch: Any, key: jax.Array) -> Any:
    del key
    params = variables["params"]
    hidden = jnp.tanh(batch @ params["first"]["kernel"] + params["first"]["bias"])
    out = hidden @ params["second"]["kernel"] + params["second"]["bias"]
    return jnp.square(out - 1).mean(), ({}, {})


def run(tx: Any, steps: int) -> tuple[list[Any], int]:
    """Return the state after every step, and how often the step was compiled."""
    traces = []

    def traced(*args: Any) -> Any:
        traces.append(args)
        return train_step(loss, tx)(*args)

    step = jax.jit(traced)
    states = [init_state(fresh(), tx)]
    for number in range(steps):
        states.append(step(states[-1], ROWS, jax.random.key(number))[0])
    return states, len(traces)


def counts(state: Any) -> dict[str, int]:
    return {path: int(mask.sum()) for path, mask in sparse.masks_of(state.opt_state).items()}


def assert_zero_where_removed(state: Any) -> None:
    masks = sparse.masks_of(state.opt_state)
    for path, mask in masks.items():
        _, layer, name = path.split("/")
        leaf = np.asarray(state.variables["params"][layer][name])
        removed = leaf[~np.asarray(mask)]
        assert removed.tobytes() == bytes(removed.nbytes), path  # exact +0.0


OPTIMIZERS = {
    "momentum": optax.sgd(0.05, momentum=0.9, nesterov=True),
    "decay": optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.05, momentum=0.9)),
    "adamw": optax.adamw(1e-2, weight_decay=0.1),
    "masked": optax.chain(
        optax.masked(optax.trace(0.9), lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree)),
        optax.sgd(0.05),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradual_pruning_lands_exactly_and_compiles_once(name: str) -> None:
    schedule = cubic(0.875, begin=2, end=12, every=2)
    states, compilations = run(sparse.sparse_optimizer(OPTIMIZERS[name], schedule), 16)
    assert compilations == 1
    for step, state in enumerate(states[1:]):
        sparsity = float(schedule.sparsity(step))
        assert counts(state) == {p: n - round(sparsity * n) for p, n in SIZES.items()}
        assert_zero_where_removed(state)
    before, after = (sparse.masks_of(state.opt_state) for state in (states[8], states[-1]))
    assert all(not bool((after[p] & ~before[p]).any()) for p in SIZES)
    moved = states[-1].variables["params"]["first"]["bias"] - fresh()["params"]["first"]["bias"]
    assert bool((moved != 0).all())


@pytest.mark.parametrize(
    ("keywords", "total"),
    [
        ({"scope": "global"}, 144 - round(0.7 * 144)),
        ({"scope": "erk"}, 144 - round(0.7 * 144)),
        ({"score": sparse.movement}, None),
        ({"score": sparse.gradient_times_weight}, None),
        ({"score": sparse.random}, None),
    ],
)
def test_other_scopes_and_scores(keywords: Any, total: int | None) -> None:
    tx = sparse.sparse_optimizer(OPTIMIZERS["momentum"], one_shot(0.7, step=3), **keywords)
    states, compilations = run(tx, 6)
    assert compilations == 1 and sum(counts(states[3]).values()) == 144
    expected = total or sum(n - round(0.7 * n) for n in SIZES.values())
    assert sum(counts(states[4]).values()) == sum(counts(states[-1]).values()) == expected
    assert_zero_where_removed(states[-1])


@pytest.mark.parametrize("regrow", [sparse.rigl(0.4), sparse.set_regrow(0.4)])
def test_regrowth_keeps_the_number_of_weights(regrow: Any) -> None:
    schedule = periodic(0.75, end=12, every=4)
    tx = sparse.sparse_optimizer(OPTIMIZERS["decay"], schedule, regrow=regrow, scope="erk")
    states, compilations = run(tx, 14)
    total = sum(SIZES.values())
    for state in states[1:]:
        assert sum(counts(state).values()) == total - round(0.75 * total)
        assert counts(state) == counts(states[1])
        assert_zero_where_removed(state)
    masks = [sparse.masks_of(state.opt_state) for state in states[1:]]
    path = "params/first/kernel"
    changed = [int((one[path] != other[path]).sum()) for one, other in zip(masks, masks[1:])]  # noqa: B905
    assert all(bool(number) <= ((step + 1) % 4 == 0) for step, number in enumerate(changed))
    assert sum(changed) > 0 and compilations == 1


def test_rigl_grows_where_the_gradient_is_largest() -> None:
    tx = sparse.sparse_optimizer(
        optax.sgd(0.0), periodic(0.5, end=1, every=1), regrow=sparse.rigl(0.5)
    )
    weight = jnp.array([[4.0, 3.0, 2.0, 1.0]])
    gradient = jnp.array([[0.0, 0.0, 1.0, 5.0]])
    _, state = tx.update({"w": gradient}, tx.init({"w": weight}), {"w": weight})
    assert sparse.masks_of(state)["w"].tolist() == [[True, False, False, True]]


def test_two_of_four_lands_and_is_checked() -> None:
    pattern = NofM(2, 4)
    tx = sparse.sparse_optimizer(optax.sgd(0.1), cubic(0.5, begin=0, end=4), pattern=pattern)
    states, _ = run(tx, 6)
    masks = sparse.masks_of(states[-1].opt_state)
    assert all(pattern.holds(np.asarray(m)) and m.mean() == 0.5 for m in masks.values())
    with pytest.raises(ValueError, match="2:4.*sparsity of 0.5.*ends at 0.75"):
        sparse.sparse_optimizer(optax.sgd(0.1), one_shot(0.75), pattern=pattern).init(fresh())
    with pytest.raises(ValueError, match="does not divide into groups of 4"):
        sparse.sparse_optimizer(optax.sgd(0.1), one_shot(0.5), pattern=pattern).init(
            {"kernel": jnp.ones((6, 4))}
        )
    with pytest.raises(ValueError, match="regrowth keeps the count of each leaf"):
        sparse.sparse_optimizer(
            optax.sgd(0.1), one_shot(0.5), pattern=pattern, regrow=sparse.rigl()
        )
    with pytest.raises(ValueError, match="one state of `sparse_optimizer`, but there are 0"):
        sparse.masks_of(optax.sgd(0.1).init(fresh()))


def test_a_global_schedule_keeps_every_output() -> None:
    schedule = cubic(0.85, begin=0, end=8, every=2)
    states, compilations = run(
        sparse.sparse_optimizer(OPTIMIZERS["momentum"], schedule, scope="global"), 10
    )
    for state in states[1:]:
        masks = sparse.masks_of(state.opt_state)
        assert all(bool(mask.any(0).all()) for mask in masks.values())
    assert sum(counts(states[-1]).values()) == 144 - round(0.85 * 144) and compilations == 1
    with pytest.raises(ValueError, match=r"16 in all.*sparsity 0.9 leaves 14 of 144"):
        sparse.sparse_optimizer(OPTIMIZERS["adamw"], one_shot(0.9), scope="global").init(fresh())
    with pytest.raises(ValueError, match="scope must be one of"):
        sparse.sparse_optimizer(OPTIMIZERS["adamw"], one_shot(0.5), scope="all").init(fresh())  # type: ignore[arg-type]


@pytest.mark.parametrize("score", [sparse.magnitude, sparse.movement])
def test_exempt_and_protected_leaves_are_scalars_and_nothing_is_none(score: Any) -> None:
    tx = sparse.sparse_optimizer(
        OPTIMIZERS["decay"], one_shot(0.5), score=score, protect=["*second/*"]
    )
    params = fresh()["params"]
    state = tx.init(params)
    for _ in range(2):
        _, state = tx.update(params, state, params)
        for tree in (state.masks, state.movement):
            assert structure_of(tree) == structure_of(params)
        assert None not in jax.tree.leaves(state, is_leaf=lambda node: node is None)
    ranks = jax.tree.map(jnp.ndim, state.masks)
    assert ranks == {"first": {"kernel": 2, "bias": 0}, "second": {"kernel": 0, "bias": 0}}
    assert list(sparse.masks_of(state)) == ["first/kernel"]
    assert jax.tree.leaves(state.masks["second"]) == [True, True]
    with pytest.raises(ValueError, match="parameters must be finite.*: second/kernel; train"):
        broken = params | {"second": {"kernel": params["second"]["kernel"] * jnp.nan}}
        sparse.sparse_optimizer(optax.sgd(0.1), one_shot(0.5)).init(broken)
    with pytest.raises(ValueError, match="match none"):
        sparse.sparse_optimizer(optax.sgd(0.1), one_shot(0.5), protect=["*/third/*"]).init(params)


def test_trees_and_flat_params_give_the_same() -> None:
    tx = sparse.sparse_optimizer(OPTIMIZERS["adamw"], one_shot(0.5))
    params = fresh()["params"]
    gradients = jax.tree.map(jnp.cos, params)
    updates, state = tx.update(gradients, tx.init(params), params)
    flat = {"first/kernel": params["first"]["kernel"]}
    slopes = {"first/kernel": gradients["first"]["kernel"]}
    flat_updates, flat_state = tx.update(slopes, tx.init(flat), flat)
    np.testing.assert_allclose(flat_updates["first/kernel"], updates["first"]["kernel"], rtol=1e-6)
    assert structure_of(state.masks) == structure_of(params)
    assert all(leaf is not None for leaf in jax.tree.leaves(state, is_leaf=lambda x: x is None))
    assert "first/kernel" in sparse.masks_of(flat_state)


def test_the_state_follows_a_shrink() -> None:
    tx = sparse.sparse_optimizer(OPTIMIZERS["adamw"], one_shot(0.5))
    states, _ = run(tx, 2)
    half = lambda tree: {path: leaf[:, :6] for path, leaf in tree.items()}  # noqa: E731
    path = "params/first/kernel"
    small = map_optimizer_state(tx, states[-1].opt_state, {path: (8, 12)}, half)
    assert small.masks[path].shape == small.inner[0].mu[path].shape == (8, 6)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_devices_give_the_masks_of_one() -> None:
    tx = sparse.sparse_optimizer(
        OPTIMIZERS["momentum"], cubic(0.8, begin=0, end=4, every=2), scope="global"
    )
    expected = run(tx, 6)[0][-1]
    devices = mesh()
    sharded = jit_step(train_step(loss, tx), devices)
    by_name = train_step(loss, tx, axis_name=devices.axis_names[0])
    whole, split = PartitionSpec(), PartitionSpec(devices.axis_names[0])
    mapped = jax.jit(
        jax.shard_map(
            by_name, mesh=devices, in_specs=(whole, split, whole), out_specs=(whole, whole)
        )
    )
    for step in (sharded, mapped):
        state = init_state(fresh(), tx)
        for number in range(6):
            state, _ = step(state, ROWS, jax.random.key(number))
        masks, wanted = (sparse.masks_of(s.opt_state) for s in (state, expected))
        jax.tree.map(np.testing.assert_array_equal, masks, wanted)
        assert_zero_where_removed(state)
