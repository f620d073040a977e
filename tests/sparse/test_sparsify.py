"""Sparsify: what it zeroes, what it leaves alone, and what it refuses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcompress as jc
from jaxcompress import sparse
from jaxcompress.artifact.spec import from_spec
from jaxcompress.sparse import NofM, nonzero_masks, sparsify
from tests.sparse.halves import ROWS, apply, half, same, variables_of


def test_weights_are_zero_and_nothing_else_changes() -> None:
    variables = variables_of()
    masks = sparse.make_masks(variables, 0.5)
    pruned = sparsify(variables, masks)
    small = pruned.variables(variables)
    for layer in ("a", "b"):
        expected = np.where(
            masks[f"params/{layer}/kernel"], variables["params"][layer]["kernel"], 0
        )
        assert np.asarray(small["params"][layer]["kernel"]).tobytes() == expected.tobytes()
    same(small["params"]["a"]["bias"], variables["params"]["a"]["bias"])
    assert pruned.function(apply) is apply
    counts = {path: leaf["nonzero"] for path, leaf in pruned.spec["leaves"].items()}
    assert counts == {"params/a/kernel": 48, "params/b/kernel": 24}
    same(pruned.variables(small), small)
    shapes = jax.eval_shape(lambda tree: tree, variables)
    assert pruned.variables(shapes) == shapes
    same(jax.jit(pruned.variables)(variables), small)


def test_masks_may_be_a_tree_and_exempt_leaves_scalar() -> None:
    variables = variables_of()
    tx = sparse.sparse_optimizer(optax.sgd(0.1), jc.sparse.schedule.one_shot(0.5))
    _, state = tx.update(variables, tx.init(variables), variables)
    one, other = (sparsify(variables, masks) for masks in (state.masks, sparse.masks_of(state)))
    assert one.spec == other.spec
    same(one.variables(variables), other.variables(variables))
    same(nonzero_masks(one.variables(variables)), sparse.masks_of(state))


def test_vmap_over_masks_is_a_loop_and_compiles_once() -> None:
    variables = variables_of()
    candidates = [sparse.make_masks(variables, share) for share in (0.25, 0.5, 0.75)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *candidates)
    traces = []

    def masked_apply(masks: Any) -> jax.Array:
        traces.append(masks)
        return apply(jc.sparse.masked(variables, masks), ROWS)

    run = jax.jit(masked_apply)
    expected = jnp.stack([run(masks) for masks in candidates])
    assert len(traces) == 1 and float(jnp.abs(expected[0] - expected[2]).max()) > 1e-3
    np.testing.assert_allclose(jax.vmap(run)(stacked), expected, rtol=1e-5, atol=1e-6)


def test_the_optimizer_state_is_masked() -> None:
    variables, tx = variables_of(), optax.adam(0.1)
    _, state = tx.update(variables, tx.init(variables), variables)
    pruned = half(variables)
    new = pruned.optimizer_state(tx, state)
    small = pruned.variables(variables)
    for name in ("a", "b"):
        zero = np.asarray(small["params"][name]["kernel"]) == 0
        for moment, old in ((new[0].mu, state[0].mu), (new[0].nu, state[0].nu)):
            leaf = np.asarray(moment["params"][name]["kernel"])
            assert not leaf[zero].any()
            same(leaf[~zero], np.asarray(old["params"][name]["kernel"])[~zero])
    assert int(new[0].count) == 1
    with pytest.raises(ValueError, match="a spec, which holds no masks"):
        from_spec(pruned.spec).optimizer_state(tx, state)


def test_wrong_masks_are_refused(tmp_path: Any) -> None:
    variables = variables_of()
    masks = sparse.make_masks(variables, 0.5)
    wrong = {
        "params/c/kernel": np.ones((2, 2), bool),
        "params/a/kernel": np.ones((12, 8), bool),
        "params/b/kernel": np.full((12, 4), 0.5),
        "params/a/bias": np.False_,
    }
    with pytest.raises(ValueError) as caught:
        sparsify(variables, wrong)
    for words in ("c/kernel: no such leaf", r"(12, 8), the leaf is (8, 12)", "other than 0 and 1"):
        assert words in str(caught.value)
    assert "params/a/bias: the scalar False" in str(caught.value)
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda tree: sparsify(variables, tree).spec and 0)(masks)
    with pytest.raises(ValueError, match=r"pattern 2:4.*params/a/kernel"):
        sparsify(variables, masks, pattern=NofM(2, 4))
    with pytest.raises(ValueError, match="96 non-zero, 48 expected"):
        from_spec(sparsify(variables, masks).spec).variables(variables)
    with pytest.raises(ValueError, match=r"params/a/kernel: \(8, 4\), expected \(8, 12\)"):
        sparsify(variables, masks).variables({"params": {"a": {"kernel": jnp.ones((8, 4))}}})
    with pytest.raises(ValueError, match="96 non-zero, 48 expected"):
        jc.save(tmp_path / "refused", sparsify(variables, masks), variables)
    assert not (tmp_path / "refused").exists()
