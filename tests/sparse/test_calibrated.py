"""Masks from what kernels are given: by activations, and rebuilt to second order."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxcompress as jc
from jaxcompress.sparse import NofM, activation_masks, reconstruct, reconstructing
from tests.toys.record import initial, rows


class Network(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(8, (3, 3))(x))
        x = nn.relu(nn.Conv(8, (1, 1), feature_group_count=2)(x))
        return nn.Dense(6)(x.mean((1, 2)))


class Case:
    def __init__(self) -> None:
        module, mixing = Network(), np.random.default_rng(0).normal(size=(4, 4))
        self.batches = [rows(8, 5, 5, 4, seed=n) @ jnp.asarray(mixing, jnp.float32) for n in (0, 1)]
        self.variables: Any = initial(module, self.batches[0])
        self.apply = module.apply
        self.graph = jc.trace(self.apply, self.variables, self.batches[0])
        self.forms = {
            path: "channel" if "window" in site.layout else "dense"
            for path, site in self.graph.sites.items()
        }
        self.covariances = jc.low_rank.input_covariances(
            self.graph, self.apply, self.variables, self.batches, self.forms
        )


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


def matrix_of(case: Case, tree: Any, path: str) -> np.ndarray:
    """Return a kernel as `[groups, rows, columns]`, by the layout of Linen's layers."""
    leaf = np.asarray(jc.graph.flatten_with_paths(tree)[0][path])
    groups = case.graph.sites[path].layout.get("groups", 1)
    flat = leaf.reshape(-1, groups, leaf.shape[-1] // groups)
    return flat.transpose(1, 0, 2)


def with_masks(case: Case, masks: Any) -> Any:
    leaves, treedef = jc.graph.flatten_with_paths(case.variables)
    return jax.tree.unflatten(treedef, [masks.get(path, leaf) for path, leaf in leaves.items()])


def error(case: Case, tree: Any, path: str) -> float:
    """Return E |x^T (W - V)|^2, the error of one site's outputs."""
    difference = matrix_of(case, case.variables, path) - matrix_of(case, tree, path)
    return float(np.einsum("gro,grs,gso->", difference, case.covariances[path], difference))


def test_every_output_keeps_its_largest_products(case: Case) -> None:
    masks = activation_masks(case.graph, case.variables, case.covariances, 0.5)
    for path, mask in masks.items():
        kernel = matrix_of(case, case.variables, path)
        kept = matrix_of(case, with_masks(case, masks), path)
        sizes = np.sqrt(np.diagonal(case.covariances[path], axis1=-2, axis2=-1))
        scores = np.abs(kernel) * sizes[..., None]
        assert (kept.sum(1) == kernel.shape[1] - round(0.5 * kernel.shape[1])).all(), path
        lowest = np.where(kept > 0, scores, np.inf).min(1)
        assert (lowest >= np.where(kept > 0, -np.inf, scores).max(1)).all(), path
        assert mask.shape == jc.graph.flatten_with_paths(case.variables)[0][path].shape


@pytest.mark.parametrize("sparsity", [0.3, 0.6])
def test_rebuilt_kernels_give_back_more_than_masked_ones(case: Case, sparsity: float) -> None:
    masks, rebuilt = reconstruct(case.graph, case.variables, case.covariances, sparsity, block=8)
    by_size = jc.sparse.make_masks(case.variables, sparsity, graph=case.graph)
    by_magnitude = jc.sparse.masked(case.variables, by_size)
    unmoved = jc.sparse.masked(case.variables, masks)
    for path, mask in masks.items():
        groups = case.graph.sites[path].layout.get("groups", 1)
        size = mask.size // groups
        assert mask.sum() == groups * (size - round(sparsity * size)), path
        if groups == 1:  # four rows leave the error nowhere to go
            assert error(case, rebuilt, path) < 0.9 * error(case, unmoved, path), path
            assert error(case, rebuilt, path) < 0.9 * error(case, by_magnitude, path), path
    leaves, before = (jc.graph.flatten_with_paths(t)[0] for t in (rebuilt, case.variables))
    for path, leaf in leaves.items():
        expected = masks.get(path, jnp.ones((), bool))
        assert (leaf[~jnp.broadcast_to(expected, leaf.shape)] == 0).all()
        assert path in masks or (leaf == before[path]).all()
    small = jc.sparsify(rebuilt, masks).variables(rebuilt)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), small, rebuilt))


def test_nothing_removed_changes_nothing(case: Case) -> None:
    masks, rebuilt = reconstruct(case.graph, case.variables, case.covariances, 0.0)
    assert all(mask.all() for mask in masks.values())
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), rebuilt, case.variables))


def test_what_cannot_be_removed_without_loss_is_the_known_optimum() -> None:
    """One output of two inputs: the kept weight is that of the regression on its input."""
    covariance = np.array([[2.0, 1.0], [1.0, 1.0]])
    variables = {"a": jnp.array([[0.1], [3.0]])}
    graph = jc.trace(lambda v, x: x @ v["a"], variables, jnp.ones((2, 2)))
    masks, rebuilt = reconstruct(graph, variables, {"a": covariance[None]}, 0.5, ridge=1e-6)
    assert masks["a"].ravel().tolist() == [False, True]
    np.testing.assert_allclose(rebuilt["a"][1, 0], 3.0 + 0.1 * 1.0 / 1.0, rtol=1e-4)


@pytest.mark.parametrize("method", ["activations", "reconstruct"])
def test_patterns_lie_along_the_inputs(case: Case, method: str) -> None:
    pattern, seen = NofM(2, 4), case.covariances
    if method == "activations":
        masks = activation_masks(case.graph, case.variables, seen, 0.5, pattern=pattern)
    else:
        masks = reconstruct(case.graph, case.variables, seen, 0.5, pattern=pattern)[0]
    for path in masks:
        kept = matrix_of(case, with_masks(case, masks), path)
        groups = kept.reshape(kept.shape[0], -1, 4, kept.shape[2])
        assert (groups.sum(2) == 2).all(), path
    jc.sparsify(case.variables, masks, pattern=pattern, graph=case.graph)


def test_each_kernel_may_have_a_sparsity_of_its_own(case: Case) -> None:
    shares = dict(zip(case.covariances, (0.25, 0.5, 0.75), strict=True))
    masks, _ = reconstruct(case.graph, case.variables, case.covariances, shares)
    others = activation_masks(case.graph, case.variables, case.covariances, shares)
    for path, share in shares.items():
        assert 1 - masks[path].mean() == pytest.approx(share, abs=0.01), path
        assert 1 - others[path].mean() == pytest.approx(share, abs=0.01), path
    del shares[path]
    with pytest.raises(ValueError, match=rf"\['{path}'\] have none"):
        reconstruct(case.graph, case.variables, case.covariances, shares)


def test_another_sparsity_compiles_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(iter(case.covariances))
    seen, traced = {path: case.covariances[path]}, []

    def counted(matrix: Any, *rest: Any) -> Any:
        traced.append(matrix.shape)
        return sweep(matrix, *rest)

    sweep = reconstructing._sweep
    monkeypatch.setattr(reconstructing, "_sweep", counted)
    kept = [
        int(reconstruct(case.graph, case.variables, seen, sparsity, block=12)[0][path].sum())
        for sparsity in (0.2, 0.4, 0.6)
    ]
    assert len(traced) == 1 and kept == sorted(kept, reverse=True) and len(set(kept)) == 3


def test_half_precision_and_scans() -> None:
    def apply(v: Any, x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda h, k: (jnp.tanh(h @ k), None), x, v["stack"])[0]

    kernels = np.random.default_rng(1).normal(size=(3, 8, 8)) / 3
    variables = {"stack": jnp.asarray(kernels, jnp.bfloat16)}
    x = rows(16, 8).astype(jnp.bfloat16)
    graph = jc.trace(apply, variables, x)
    seen = jc.low_rank.input_covariances(graph, apply, variables, [x], {"stack": "dense"})
    masks, rebuilt = reconstruct(graph, variables, seen, 0.5)
    assert rebuilt["stack"].dtype == jnp.bfloat16 and seen["stack"].shape == (3, 1, 8, 8)
    assert (masks["stack"].sum((1, 2)) == 32).all()


def test_misuse_is_refused_by_name(case: Case) -> None:
    path = next(iter(case.covariances))
    with pytest.raises(ValueError, match=r"\['b'\] are none"):
        activation_masks(case.graph, case.variables, {"b": np.eye(2)}, 0.5)
    with pytest.raises(ValueError, match=rf"{path}: \(2, 2\), expected \(1, 36, 36\)"):
        reconstruct(case.graph, case.variables, {path: np.eye(2)}, 0.5)
    with pytest.raises(ValueError, match=r"36 rows do not divide into groups of 8"):
        seen = {path: case.covariances[path]}
        reconstruct(case.graph, case.variables, seen, 0.5, pattern=NofM(2, 8))
    with pytest.raises(ValueError, match=f"hold NaN or infinity: {path}"):
        reconstruct(case.graph, case.variables, {path: case.covariances[path] * np.nan}, 0.5)
