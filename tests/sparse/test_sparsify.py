"""Sparsify: laws 3, 9 and 10, alone and in chains, and the parameter arithmetic of SlimNets."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxcompress as jc
from jaxcompress import models, sparse
from jaxcompress.artifact.spec import from_spec
from jaxcompress.paths import flatten_with_paths
from jaxcompress.sparse import NofM, nonzero_masks, sparsify

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(5, 8)), jnp.float32)


def variables_of() -> Any:
    random = np.random.default_rng(1)
    shapes = {"a": {"kernel": (8, 12), "bias": (12,)}, "b": {"kernel": (12, 4)}}
    return jax.tree.map(
        lambda shape: jnp.asarray(random.normal(size=shape), jnp.float32),
        {"params": shapes},
        is_leaf=lambda node: isinstance(node, tuple),
    )


def apply(variables: Any, rows: jax.Array) -> jax.Array:
    params = variables["params"]
    hidden = jnp.tanh(rows @ params["a"]["kernel"] + params["a"]["bias"])
    return hidden @ params["b"]["kernel"]


def same(one: Any, other: Any) -> None:
    left, right = flatten_with_paths(one)[0], flatten_with_paths(other)[0]
    assert list(left) == list(right)
    for path, leaf in right.items():
        assert np.asarray(left[path]).tobytes() == np.asarray(leaf).tobytes(), path


def half(variables: Any) -> jc.Compression:
    return sparsify(variables, sparse.make_masks(variables, 0.5))


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


def chains() -> dict[str, Any]:
    """Compressions that end in sparsify, and one that does not."""
    variables = variables_of()
    graph = jc.trace(apply, variables, ROWS)
    keep = {name: np.arange(g.width) % 2 == 0 for name, g in graph.groups.items()}
    shrunk = jc.shrink(graph, keep)
    lowrank = jc.factorize(graph, {"params/a/kernel": 3})
    pruned = half(variables)
    sparse_graph = jc.trace(apply, pruned.variables(variables), ROWS)
    return {
        "alone": (pruned,),
        "shrunk": (shrunk, half(shrunk.variables(variables))),
        "factorized": (lowrank, half(lowrank.variables(variables))),
        "then shrunk": (pruned, jc.shrink(sparse_graph, keep)),
    }


CHAINS = chains()


@pytest.mark.parametrize("name", CHAINS)
def test_chains_compose_and_survive_json(name: str) -> None:
    steps, variables = CHAINS[name], variables_of()
    both = jc.chain(*steps)
    assert jc.chain(jc.chain(*steps[:1]), *steps[1:]).spec == both.spec
    small = both.variables(variables)
    function = both.function(apply)
    expected = function(small, ROWS)
    assert bool(jnp.isfinite(expected).all()) and float(jnp.abs(expected).max()) > 0
    assert float(jnp.abs(expected - apply(variables, ROWS)).max()) > 1e-3
    np.testing.assert_allclose(jax.jit(function)(small, ROWS), expected, rtol=1e-6, atol=1e-6)
    again = from_spec(json.loads(json.dumps(dict(both.spec))))
    assert again.spec == both.spec
    np.testing.assert_array_equal(again.function(apply)(small, ROWS), expected)
    if name == "alone":
        same(again.variables(small), small)


@pytest.mark.parametrize("name", CHAINS)
def test_chains_come_back_from_disk(name: str, tmp_path: Any) -> None:
    both, variables = jc.chain(*CHAINS[name]), variables_of()
    small = both.variables(variables)
    for encoding in (None, jc.artifact.Encoding()):
        jc.save(tmp_path, both, small, encoding=encoding)
        for like in (None, variables):
            function, loaded = jc.load(tmp_path, apply, like)
            same(loaded, small)
            same(function(loaded, ROWS), both.function(apply)(small, ROWS))


def test_sparsifying_twice_is_sparsifying_once() -> None:
    variables = variables_of()
    first, both = (sparse.make_masks(variables, share) for share in (0.5, 0.75))
    second = {path: mask | ~first[path] for path, mask in both.items()}
    once, twice = sparsify(variables, both), sparsify(variables, first)
    twice = jc.chain(twice, sparsify(twice.variables(variables), second))
    same(twice.variables(variables), once.variables(variables))
    same(once.variables(once.variables(variables)), once.variables(variables))


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


FRESH = """
import sys, numpy as np
from jaxcompress.artifact import load
function, variables = load(sys.argv[1])
np.save(sys.argv[1] + "/logits.npy", function(variables, np.load(sys.argv[1] + "/images.npy")))
"""


def test_shrunk_factorized_and_sparsified_is_one_artifact_in_a_fresh_process(
    tmp_path: Any,
) -> None:
    module = models.build("nin", width=12)
    images = np.random.default_rng(2).normal(size=(2, 32, 32, 3)).astype(np.float32)
    variables = models.initialize(module, jax.random.key(0), images.shape)
    both, function = jc.chain(), models.evaluation_function(module)
    for change in (_halved, _factorized, _pruned):
        step = change(function, variables, images)
        both, function = jc.chain(both, step), step.function(function)
        variables = step.variables(variables)
    jc.save(tmp_path, both, variables, network=("nin", {"width": 12}))
    summary = jc.artifact.inspect(tmp_path)
    assert summary["kinds"] == ["shrink", "factorize", "sparsify"]
    assert from_spec(summary["spec"]).spec == both.spec
    assert summary["nonzero"] < 0.6 * summary["params"] < 0.6 * summary["original_params"]
    np.save(tmp_path / "images.npy", images)
    subprocess.run([sys.executable, "-c", FRESH, str(tmp_path)], check=True)
    logits = np.load(tmp_path / "logits.npy")
    assert logits.tobytes() == np.asarray(function(variables, images)).tobytes()
    assert np.ptp(logits) > 0


def _halved(function: Any, variables: Any, images: Any) -> jc.Compression:
    graph = jc.trace(function, variables, images)
    return jc.shrink(graph, {name: np.arange(g.width) % 2 == 0 for name, g in graph.groups.items()})


def _factorized(function: Any, variables: Any, images: Any) -> jc.Compression:
    path = "params/stage2_conv1/kernel"
    return jc.factorize(jc.trace(function, variables, images), {path: 2}, {path: "spatial"})


def _pruned(function: Any, variables: Any, images: Any) -> jc.Compression:
    return half(variables)


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


# The arithmetic of SlimNets (arXiv:1808.00496), sections 4 and 5.

RANKS = (5, 24, 48, 48, 64, 128, 128, 160, 192, 256, 320, 320, 320, 320, 320, 320)
CIFAR = (1, 32, 32, 3)


def shapes_of(name: str) -> tuple[Any, Any]:
    module = models.build(name)
    draw = lambda: models.initialize(module, jax.random.key(0), CIFAR)  # noqa: E731
    return models.evaluation_function(module), jax.eval_shape(draw)


def test_85_times_fewer_parameters() -> None:
    total = {
        name: sum(x.size for x in jax.tree.leaves(shapes_of(name)[1])) for name in ("vgg19", "nin")
    }
    assert total == {"vgg19": 20_554_826, "nin": 966_986}
    assert round(total["vgg19"] / (total["nin"] * 0.25), 2) == 85.03


def test_a_pruned_nin_has_the_parameters_that_masks_count() -> None:
    _, shapes = shapes_of("nin")
    leaves = flatten_with_paths(shapes)[0]
    kernels = {p: leaf.shape for p, leaf in leaves.items() if leaf.ndim > 1}
    biases = sum(leaf.size for leaf in leaves.values() if leaf.ndim == 1)
    kept = sparse.kept_counts(kernels, 0.75, "uniform", jc.sparse.Block())
    # The paper divides by four; biases, which it leaves dense as well, make it a little less.
    assert biases == 1_418 and sum(kept) == (966_986 - 1_418) / 4 == 241_392
    assert round(20_554_826 / (sum(kept) + biases), 2) == 84.65


def test_the_low_rank_vgg_has_the_published_parameters() -> None:
    apply_vgg, shapes = shapes_of("vgg19_bn")
    graph = jc.trace(apply_vgg, shapes, jax.ShapeDtypeStruct(CIFAR, jnp.float32))
    convolutions = [path for path in graph.sites if len(graph.leaves[path].shape) == 4]
    ranks = dict(zip(convolutions, RANKS, strict=True))
    lowrank = jc.factorize(graph, ranks, {path: "spatial" for path in convolutions})
    small = lowrank.variables(shapes)
    params = sum(leaf.size for leaf in jax.tree.leaves(small["params"]))
    # Theirs also counts a bias, always zero, for each of the vertical filters.
    assert params + sum(RANKS) == 8_464_404
    assert round(20_554_826 / 8_464_404, 3) == 2.428
