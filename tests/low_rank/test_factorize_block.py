"""Two convolutions factorized: beside shrinking, an optimizer, a fresh process, refinement."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcompress.annotations import Array, PyTree
from jaxcompress.artifact import save
from jaxcompress.compression import chain
from jaxcompress.graph import trace
from jaxcompress.low_rank import factorize, multiplied_out, refine, truncations
from jaxcompress.low_rank.statistics import input_covariances, input_roots
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import shrink
from tests.low_rank.sites import IMAGES, block, distance
from tests.toys.record import draw, rows
from tests.trees import structure_of


def test_works_after_shrinking_and_before() -> None:
    apply, variables, graph = block()
    keep = {"net/a[3]": np.arange(8) < 5}
    prune = shrink(graph, keep)
    small, small_apply = prune.variables(variables), prune.function(apply)
    middle = trace(small_apply, small, IMAGES)
    lowrank = factorize(middle, {"net/a": 15, "net/b": 12})
    both = chain(prune, lowrank)
    outputs = both.function(apply)(both.variables(variables), IMAGES)
    assert distance(outputs, small_apply(small, IMAGES)) < 1e-5

    first = factorize(graph, {"net/a": 18, "net/b": 12})
    wide, wide_apply = first.variables(variables), first.function(apply)
    after = trace(wide_apply, wide, IMAGES)
    assert "net/a/first[3]" in after.groups
    cut = {"net/a/first[3]": np.arange(18) < 4}
    second = shrink(after, cut)
    fewer = factorize(graph, {"net/a": 4, "net/b": 12})
    expected = fewer.function(apply)(fewer.variables(variables), IMAGES)
    outputs = second.function(wide_apply)(second.variables(wide), IMAGES)
    assert distance(outputs, expected) < 1e-5


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
def test_optimizer_state_fits_the_factors(flat: bool) -> None:
    apply, variables, graph = block()
    lowrank = factorize(graph, {"net/a": 3})
    small = lowrank.variables(variables)
    view = (lambda tree: flatten_with_paths(tree)[0]) if flat else (lambda tree: tree)
    tx = optax.adam(1e-3)
    _, state = tx.update(view(variables), tx.init(view(variables)))
    small_state = lowrank.optimizer_state(tx, state)
    expected = jax.eval_shape(tx.init, view(small))
    assert structure_of(small_state) == structure_of(expected)
    shapes = [leaf.shape for leaf in jax.tree.leaves(small_state)]
    assert shapes == [leaf.shape for leaf in jax.tree.leaves(expected)]
    moments = flatten_with_paths(small_state[0].mu)[0]
    np.testing.assert_allclose(moments["net/b"], 0.1 * variables["net"]["b"], rtol=1e-6)
    assert not np.asarray(moments["net/a/first"]).any()
    tx.update(view(small), small_state)


FRESH = """
import sys, numpy
from jaxcompress.artifact import load
from tests.low_rank.sites import IMAGES, block
function, variables = load(sys.argv[1], block()[0])
numpy.save(sys.argv[2], numpy.asarray(function(variables, IMAGES)))
"""


def test_save_then_load_in_a_fresh_process(tmp_path: Path) -> None:
    apply, variables, graph = block()
    prune = shrink(graph, {"net/a[3]": np.arange(8) < 5})
    small = prune.variables(variables)
    middle = trace(prune.function(apply), small, IMAGES)
    both = chain(prune, factorize(middle, {"net/a": 3, "net/b": 4}))
    factored = both.variables(variables)
    save(tmp_path / "network", both, factored)
    output = tmp_path / "output.npy"
    subprocess.run([sys.executable, "-c", FRESH, tmp_path / "network", output], check=True)
    np.testing.assert_array_equal(np.load(output), both.function(apply)(factored, IMAGES))
    with pytest.raises(ValueError, match="net/b"):
        wrong = {"net": {**factored["net"], "b": factored["net"]["b"]["first"]}}
        save(tmp_path / "wrong", both, wrong)


def test_refine_lowers_the_error_of_spatial_factors() -> None:
    apply, variables, graph = block()
    lowrank = factorize(graph, {"net/a": 4, "net/b": 4})
    small = lowrank.variables(variables)
    full = dict.fromkeys(graph.sites, "channel")
    covariances = input_covariances(graph, apply, variables, [IMAGES], full)
    refined = refine(lowrank, variables, small, covariances)
    merged = multiplied_out(lowrank, refined)
    assert distance(apply(merged, IMAGES), lowrank.function(apply)(refined, IMAGES)) < 1e-5
    assert structure_of(refined) == structure_of(small)
    expected = apply(variables, IMAGES)
    before, after = (
        float(((lowrank.function(apply)(tree, IMAGES) - expected) ** 2).mean())
        for tree in (small, refined)
    )
    assert after < before


def test_covariances_need_data_and_a_known_number_of_runs() -> None:
    def apply(variables: PyTree, x: Array) -> Array:
        return jax.lax.while_loop(lambda y: y.max() > 1, lambda y: jnp.tanh(y @ variables["w"]), x)

    variables, x = draw(3, {"w": (6, 6)}), rows(4, 6)
    graph = trace(apply, variables, x)
    with pytest.raises(ValueError, match="while holds one"):
        input_roots(graph, apply, variables, [x], {"w": "dense"})
    with pytest.raises(ValueError, match="no batch"):
        input_roots(graph, apply, variables, [], {"w": "dense"})


def test_errors_name_all_offenders() -> None:
    apply, variables, graph = block()
    with pytest.raises(ValueError, match=r"nowhere.*net/a"):
        factorize(graph, {"nowhere": 2})
    with pytest.raises(ValueError, match=r"net/a: rank 19 not in 1..18; net/b: rank 0 not in"):
        factorize(graph, {"net/a": 19, "net/b": 0})
    with pytest.raises(ValueError, match="net/a: no form 'dense'"):
        factorize(graph, {"net/a": 2}, {"net/a": "dense"})
    lowrank = factorize(graph, {"net/a": 2})
    with pytest.raises(ValueError, match="net/a.*missing"):
        lowrank.variables({"net": {"b": variables["net"]["b"]}})
    with pytest.raises(ValueError, match="pass the result of `variables`"):
        lowrank.function(apply)(variables, IMAGES)

    broken = {"net": {**variables["net"], "a": variables["net"]["a"].at[0, 0, 0, 0].set(jnp.nan)}}
    with pytest.raises(ValueError, match="finite to be factorized, but net/a hold"):
        lowrank.variables(broken)
    with pytest.raises(ValueError, match="finite to be factorized, but net/a hold"):
        truncations(graph, broken, {"net/a": "spatial", "net/b": "spatial"})

    def twice(tree: PyTree, x: Array) -> Array:
        return x @ tree["w"] + tree["w"].sum()

    other = trace(twice, {"w": jnp.ones((6, 6))}, rows(2, 6))
    with pytest.raises(ValueError, match="w: read by 1 other"):
        factorize(other, {"w": 2})
