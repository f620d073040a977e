"""Artifacts: every kind of variables comes back, and is the same function in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.artifact import inspect, load, num_bytes, save
from jaxcompress.compression import chain
from jaxcompress.models import build, evaluation_function, training_function
from jaxcompress.paths import flatten_with_paths
from tests.artifact.small import CONFIG, Small, assert_same, data_file, half, mlp
from tests.trees import structure_of

FRESH = """
import sys, jax, jax.numpy as jnp, numpy as np
from jaxcompress.artifact import load
folder = sys.argv[1]
def mlp(variables, x):
    return jnp.tanh(x @ variables["a"]["kernel"]) @ variables["b"]["kernel"]
for name, apply in (("resnet", None), ("plain", mlp)):
    function, variables = load(f"{folder}/{name}", apply)
    inputs = np.load(f"{folder}/{name}.npy")
    np.save(f"{folder}/{name}_out.npy", jax.jit(function)(variables, inputs))
"""


def test_a_fresh_process_gets_the_same_function_bitwise(
    tmp_path: Path, resnet: Small, plain: Small, images: jax.Array
) -> None:
    save(tmp_path / "resnet", resnet.prune, resnet.small, network=("resnet20", CONFIG))
    save(tmp_path / "plain", plain.prune, plain.small)
    inputs = {"resnet": images, "plain": jax.random.normal(jax.random.key(3), (5, 3))}
    for name, values in inputs.items():
        np.save(tmp_path / f"{name}.npy", values)
    subprocess.run([sys.executable, "-c", FRESH, str(tmp_path)], check=True)
    applies = {"resnet": evaluation_function(build("resnet20", **CONFIG)), "plain": mlp}
    for name, one in (("resnet", resnet), ("plain", plain)):
        expected = jax.jit(one.prune.function(applies[name]))(one.small, inputs[name])
        outputs = np.load(tmp_path / f"{name}_out.npy")
        assert np.isfinite(outputs).all() and outputs.tobytes() == np.asarray(expected).tobytes()


def test_a_training_function_and_a_chain_come_back(
    tmp_path: Path, resnet: Small, images: jax.Array
) -> None:
    module = build("resnet20", **CONFIG)
    again = half(resnet.prune.function(evaluation_function(module)), resnet.small, images)
    both = chain(resnet.prune, again.prune)
    save(tmp_path, both, again.small)
    function, variables = load(tmp_path, training_function(module), like=resnet.variables)
    assert_same(variables, again.small)
    outputs = jax.jit(function)(variables, images)
    expected = jax.jit(both.function(training_function(module)))(again.small, images)
    assert_same(outputs, expected)
    assert inspect(tmp_path)["kinds"] == ["shrink", "shrink"]


def test_every_kind_of_leaf_comes_back(tmp_path: Path) -> None:
    variables = {
        "bfloat16": jnp.linspace(0, 1, 6, dtype=jnp.bfloat16).reshape(2, 3),
        "float8": jnp.ones(3, jnp.float8_e4m3fn),
        "complex": jnp.ones(2) * 1j,
        "flag": jnp.array([True, False]),
        "count": jnp.uint32(3),
        "empty": jnp.ones((0, 4)),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "host": np.arange(3.0),
        "keys": {"one": jax.random.key(1), "many": jax.random.split(jax.random.key(2, impl="rbg"))},
    }
    save(tmp_path, chain(), variables)
    _, loaded = load(tmp_path, lambda variables: variables)
    assert_same(loaded, variables)
    same_draw = (jax.random.normal(tree["keys"]["many"][1]) for tree in (loaded, variables))
    assert len({float(draw) for draw in same_draw}) == 1
    save(tmp_path, chain(), jnp.ones(3))
    assert_same(load(tmp_path, abs)[1], jnp.ones(3))


def test_empty_dicts_come_back(tmp_path: Path) -> None:
    one = jnp.ones(2)
    trees: list[Any] = [
        {"params": {"a": one, "norm": {}}, "batch_stats": {}, "state": {"deep": {"er": {}}}},
        {"only": {}},
        {},
    ]
    for tree in trees:
        save(tmp_path, chain(), tree)
        loaded = load(tmp_path, abs)[1]
        assert structure_of(loaded) == structure_of(tree)
        assert inspect(tmp_path)["leaves"] == len(jax.tree.leaves(tree))
    for other in ({"a": one, "b": None}, {"a": one, "b": {"c": []}}, {"a": one, "": {}}, {"": one}):
        save(tmp_path, chain(), other)
        with pytest.raises(ValueError, match="pass like="):
            load(tmp_path, abs)
        assert structure_of(load(tmp_path, abs, other)[1]) == structure_of(other)


def test_an_artifact_of_an_earlier_version_comes_back() -> None:
    """Shrunk, factorized and stored as int8 by version 0.1.0."""
    folder = Path(__file__).parent / "format_1"
    function, variables = load(folder, mlp)
    leaves, _ = flatten_with_paths(variables)
    sums = {path: float(jnp.sum(leaf)) for path, leaf in leaves.items() if path != "k"}
    expected = {
        "a/kernel/first": -2.439506,
        "a/kernel/second": 1.943405,
        "b/kernel": 2.820621,
        "e": 0.0,
    }
    assert sums == pytest.approx(expected, rel=1e-5)
    assert leaves["k"] == jax.random.key(1)
    assert function(variables, jnp.ones((2, 8))).shape == (2, 4)
    assert inspect(folder)["kinds"] == ["shrink", "factorize"]


def test_summary(tmp_path: Path, resnet: Small, images: jax.Array) -> None:
    network = ("resnet20", {**CONFIG, "dtype": "bfloat16"})
    save(tmp_path, resnet.prune, resnet.small, network=network, metadata={"accuracy": 0.5})
    summary = inspect(tmp_path)
    counts = [sum(x.size for x in jax.tree.leaves(v["params"])) for v in resnet[1:]]
    assert [summary["original_params"], summary["params"]] == counts
    assert summary["kinds"] == ["shrink"] and summary["metadata"] == {"accuracy": 0.5}
    assert summary["network"] == {"name": network[0], "config": network[1]}
    files = [tmp_path / "structure.json", data_file(tmp_path)]
    assert summary["bytes"] == num_bytes(tmp_path) == sum(f.stat().st_size for f in files)
    json.loads((tmp_path / "structure.json").read_text())
    function, variables = load(tmp_path)
    original = evaluation_function(build("resnet20", width=4, dtype=jnp.bfloat16))
    expected = jax.jit(resnet.prune.function(original))(resnet.small, images)
    assert_same(jax.jit(function)(variables, images), expected)
