"""Masks once: exact counts, scopes, scores, patterns, inside jit too."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress import sparse
from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.sparse import Block, NofM
from jaxcompress.sparse.patterns import keep_largest

SHAPES = {
    "params/a/kernel": (3, 3, 8, 16),
    "params/a/bias": (16,),
    "params/b/kernel": (16, 40),
    "params/c/kernel": (40, 8),
}
KERNELS = [path for path in SHAPES if path.endswith("kernel")]
SIZES = {path: int(np.prod(SHAPES[path])) for path in KERNELS}


@pytest.fixture(scope="module")
def params() -> dict[str, jax.Array]:
    random = np.random.default_rng(0)
    return {path: jnp.asarray(random.normal(size=s), jnp.float32) for path, s in SHAPES.items()}


def kept(masks: PyTree) -> dict[str, int]:
    return {path: int(mask.sum()) for path, mask in masks.items()}


def test_ties_are_spread_and_counts_are_exact() -> None:
    scores = jnp.asarray(np.random.default_rng(0).integers(0, 3, (5, 7)).astype(np.float32))
    scores = scores.at[0, 0].set(jnp.nan)
    select = jax.jit(keep_largest)
    values = np.nan_to_num(np.asarray(scores).ravel(), nan=-np.inf)
    for count in range(36):
        mask = np.asarray(select(scores, jnp.int32(count))).ravel()
        assert mask.sum() == count
        if not 0 < count < 35:
            continue
        assert values[mask].min() >= values[~mask].max()
        ties = mask[values == values[mask].min()]
        even = ties.mean() * np.arange(1, len(ties) + 1)
        assert np.abs(ties.cumsum() - even).max() <= 1


def test_many_ties_are_spread_over_leaves_and_counted_exactly() -> None:
    for count in (1, 999, 123_457, 999_999):
        mask = np.asarray(keep_largest(jnp.zeros(1_000_001), count))
        assert mask.sum() == count
        even = count / mask.size * np.arange(1, mask.size + 1)
        assert np.abs(mask.cumsum() - even).max() <= 3
    equal = {"a": jnp.ones((8, 8)), "b": jnp.ones((8, 8))}
    counts = kept(sparse.make_masks(equal, 0.5, scope="global"))
    assert counts == {"a": 32, "b": 32}


@pytest.mark.parametrize("sparsity", [0.0, 0.4, 0.75, 0.875, 0.99])
def test_uniform_and_global_counts_are_exact(params: PyTree, sparsity: float) -> None:
    uniform = sparse.make_masks(params, sparsity)
    assert kept(uniform) == {p: n - round(sparsity * n) for p, n in SIZES.items()}
    total = sum(SIZES.values())
    if sparsity < 0.99:
        shared = sparse.make_masks(params, sparsity, scope="global")
        assert sum(kept(shared).values()) == total - round(sparsity * total)
    else:
        with pytest.raises(ValueError, match=r"64 in all \(params/a/kernel: 16, .*21 of 2112"):
            sparse.make_masks(params, sparsity, scope="global")
    erk = sparse.make_masks(params, sparsity, scope="erk")
    assert sum(kept(erk).values()) == total - round(sparsity * total)


def test_a_traced_sparsity_gives_the_same_masks(params: PyTree) -> None:
    for scope in ("uniform", "global"):
        traces: list[Array] = []

        def traced(
            s: Array, scope: Any = scope, traces: list[Array] = traces
        ) -> dict[str, jax.Array]:
            traces.append(s)
            return sparse.make_masks(params, s, scope=scope)

        make = jax.jit(traced)
        for sparsity in (0.25, 0.8):
            expected = sparse.make_masks(params, sparsity, scope=scope)
            jax.tree.map(np.testing.assert_array_equal, make(jnp.float32(sparsity)), expected)
        assert len(traces) == 1
    with pytest.raises(ValueError, match="erk solves for its densities on the host"):
        sparse.make_masks(params, jnp.float32(0.5), scope="erk")


def test_global_keeps_the_largest_of_all(params: PyTree) -> None:
    masks = sparse.make_masks(params, 0.7, scope="global")
    weights = np.concatenate([np.abs(np.asarray(params[p])).ravel() for p in KERNELS])
    mask = np.concatenate([np.asarray(masks[p]).ravel() for p in KERNELS])
    assert weights[mask].min() > weights[~mask].max()


def test_erk_densities_follow_the_equation() -> None:
    shapes = {p: SHAPES[p] for p in KERNELS}
    counts = dict(zip(KERNELS, sparse.kept_counts(shapes, 0.9, "erk", Block()), strict=True))
    raw = {p: sum(SHAPES[p]) / SIZES[p] for p in KERNELS}
    scales = [counts[p] / SIZES[p] / raw[p] for p in KERNELS]
    assert max(scales) / min(scales) == pytest.approx(1, rel=0.05)
    dense = {"tiny": (2, 2), "large": (200, 200)}
    assert sparse.kept_counts(dense, 0.5, "erk", Block()) == [4, 20_002 - 4]


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (16, 40)])
def test_two_of_four(shape: tuple[int, ...]) -> None:
    weight = jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)
    pattern = NofM(2, 4, axis=-2)
    mask = np.asarray(sparse.make_masks({"w": weight}, 0.5, pattern=pattern)["w"])
    groups = np.moveaxis(mask, -2, -1).reshape(-1, 4)
    assert (groups.sum(1) == 2).all() and pattern.holds(mask)
    values = np.abs(np.moveaxis(np.asarray(weight), -2, -1)).reshape(-1, 4)
    assert (np.where(groups, values, np.inf).min(1) > np.where(groups, 0, values).max(1)).all()


def test_blocks_are_kept_whole(params: PyTree) -> None:
    pattern = Block((4, 4))
    for scope in ("uniform", "global", "erk"):
        masks = sparse.make_masks(params, 0.5, pattern=pattern, scope=scope)
        assert all(pattern.holds(np.asarray(mask)) for mask in masks.values())
        assert sum(kept(masks).values()) == sum(SIZES.values()) / 2
    assert not pattern.holds(np.asarray(sparse.make_masks(params, 0.5)["params/b/kernel"]))


def test_scores_and_protection(params: PyTree) -> None:
    slopes = jax.tree.map(jnp.cos, params)
    one = params["params/b/kernel"]
    for score, value in [
        (sparse.magnitude, jnp.abs(one)),
        (sparse.gradient_times_weight, jnp.abs(one * jnp.cos(one))),
        (sparse.movement, -one * jnp.cos(one)),
    ]:
        masks = sparse.make_masks(params, 0.5, score=score, gradients=slopes)
        mask = masks["params/b/kernel"]
        assert float(value[mask].min()) >= float(value[~mask].max())
    draws = [
        sparse.make_masks(params, 0.5, score=sparse.random, key=jax.random.key(seed))
        for seed in (0, 0, 1)
    ]
    same = [bool((draws[0][p] == other[p]).all()) for other in draws[1:] for p in KERNELS]
    assert same == [True] * 3 + [False] * 3
    assert list(sparse.make_masks(params, 0.5, protect=["*/b/*"])) == [KERNELS[0], KERNELS[2]]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"sparsity": 1.0}, r"in \[0, 1\)"),
        ({"sparsity": -0.1}, r"in \[0, 1\)"),
        (
            {"pattern": NofM(2, 3, axis=-2)},
            r"a/kernel: 8 along.*of 3; params/b/kernel: 16.*c/kernel: 40",
        ),
        ({"pattern": NofM()}, "2:4 along the inputs.*params/a/kernel has 4 axes; pass graph="),
        ({"pattern": Block((3, 4))}, r"a/kernel: \(3, 3, 8, 16\) does not divide"),
        ({"pattern": NofM(axis=-2), "scope": "global"}, "knows no scope 'global'"),
        ({"score": sparse.movement}, "reads the gradient.*pass gradients="),
        ({"protect": ["*/d/*"]}, r"\['\*/d/\*'\] match none"),
        ({"protect": ["*"]}, "there is none"),
        ({"scope": "layer"}, "scope must be one of .*'global'.*, but is 'layer'"),
    ],
)
def test_wrong_requests_are_refused(params: PyTree, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sparse.make_masks(params, **{"sparsity": 0.5, **keywords})


def test_global_leaves_no_output_silent(params: PyTree) -> None:
    uneven = params | {KERNELS[1]: 1e-3 * params[KERNELS[1]]}
    for pattern, share in ((Block(), 0.95), (Block((4, 4)), 0.85)):
        made = sparse.make_masks(uneven, share, scope="global", pattern=pattern)
        total = sum(SIZES.values()) // pattern.shape[0] ** 2
        units = sum(kept(made).values()) / pattern.shape[0] ** 2
        assert units == total - round(share * total)
        assert all(bool(mask.any(axis=tuple(range(mask.ndim - 1))).all()) for mask in made.values())
    # The best of each output of the small leaf is kept, and of the others the largest of all.
    made = sparse.make_masks(uneven, 0.95, scope="global")
    expected = np.zeros((16, 40), bool)
    expected[np.abs(np.asarray(uneven[KERNELS[1]])).argmax(0), np.arange(40)] = True
    np.testing.assert_array_equal(made[KERNELS[1]], expected)
    traced = jax.jit(lambda s: sparse.make_masks(uneven, s, scope="global"))
    assert sum(kept(traced(0.999)).values()) == 64


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_scored_as_in_float32(params: PyTree, dtype: Any) -> None:
    half = jax.tree.map(lambda leaf: (1e-2 * leaf).astype(dtype), params)
    slopes = jax.tree.map(lambda leaf: (1e-5 * jnp.cos(leaf)).astype(dtype), params)
    wide, wide_slopes = (jax.tree.map(jnp.float32, tree) for tree in (half, slopes))
    for keywords in (
        {"score": sparse.magnitude, "pattern": Block((4, 4))},
        {"score": sparse.gradient_times_weight},
        {"score": sparse.movement, "scope": "global"},
    ):
        masks = sparse.make_masks(half, 0.5, gradients=slopes, **keywords)
        expected = sparse.make_masks(wide, 0.5, gradients=wide_slopes, **keywords)
        jax.tree.map(np.testing.assert_array_equal, masks, expected)


def test_nan_and_infinity_are_refused_by_name(params: PyTree) -> None:
    broken = dict(params)
    broken[KERNELS[0]] = params[KERNELS[0]].at[0, 0, 0, 0].set(jnp.nan)
    broken[KERNELS[2]] = params[KERNELS[2]].at[1, 1].set(jnp.inf)
    with pytest.raises(ValueError, match="variables must be finite.*: params/a/kernel, params/c"):
        sparse.make_masks(broken, 0.5)
    with pytest.raises(ValueError, match="gradients must be finite.*: params/a/kernel, params/c"):
        sparse.make_masks(params, 0.5, score=sparse.movement, gradients=broken)
    assert list(sparse.make_masks(broken, 0.5, protect=["*/a/*", "*/c/*"])) == [KERNELS[1]]


@pytest.mark.parametrize("make", [lambda: NofM(5, 4), lambda: Block((0, 1))])
def test_wrong_patterns_are_refused(make: Function) -> None:
    with pytest.raises(ValueError):
        make()
