"""Sparsify in chains: with shrinking and low rank, through JSON, disk and a fresh process."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress import models, sparse
from jaxcompress.annotations import Array
from jaxcompress.artifact.spec import from_spec
from jaxcompress.sparse import sparsify
from tests.sparse.halves import ROWS, apply, half, same, variables_of


@functools.cache
def chains() -> dict[str, tuple[jc.Compression, ...]]:
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


CHAINS = ("alone", "shrunk", "factorized", "then shrunk")


@pytest.mark.parametrize("name", CHAINS)
def test_chains_compose_and_survive_json(name: str) -> None:
    steps, variables = chains()[name], variables_of()
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
    both, variables = jc.chain(*chains()[name]), variables_of()
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


FRESH = """
import sys, jax, numpy as np
from jaxcompress.artifact import load
function, variables = load(sys.argv[1])
logits = jax.jit(function)(variables, np.load(sys.argv[1] + "/images.npy"))
np.save(sys.argv[1] + "/logits.npy", logits)
"""


def test_shrunk_factorized_and_sparsified_is_one_artifact_in_a_fresh_process(
    tmp_path: Any,
) -> None:
    module = models.build("nin", width=12)
    images: Array = np.random.default_rng(2).normal(size=(2, 32, 32, 3)).astype(np.float32)
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
    assert logits.tobytes() == np.asarray(jax.jit(function)(variables, images)).tobytes()
    assert np.ptp(logits) > 0


def _halved(function: Any, variables: Any, images: Any) -> jc.Compression:
    graph = jc.trace(function, variables, images)
    return jc.shrink(graph, {name: np.arange(g.width) % 2 == 0 for name, g in graph.groups.items()})


def _factorized(function: Any, variables: Any, images: Any) -> jc.Compression:
    path = "params/stage2_conv1/kernel"
    return jc.factorize(jc.trace(function, variables, images), {path: 2}, {path: "spatial"})


def _pruned(function: Any, variables: Any, images: Any) -> jc.Compression:
    return half(variables)
