"""Artifacts: the same function in a fresh process, no half-written state, no silent damage."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxcompress.adapters import from_equinox, from_nnx
from jaxcompress.artifact import inspect, load, num_bytes, save
from jaxcompress.compression import Compression, chain
from jaxcompress.graph import trace
from jaxcompress.models import build, evaluation_function, initialize, training_function
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import shrink

CONFIG = {"width": 4}


class Small(NamedTuple):
    """A shrunk network: its compression, and its variables before and after."""

    prune: Compression
    variables: Any
    small: Any


def half(apply: Callable[..., Any], variables: Any, *inputs: Any) -> Small:
    """Keep half of every group's channels."""
    graph = trace(apply, variables, *inputs)
    keep = {name: np.arange(g.width) < (g.width + 1) // 2 for name, g in graph.groups.items()}
    prune = shrink(graph, keep)
    assert keep
    return Small(prune, variables, prune.variables(variables))


def mlp(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ variables["a"]["kernel"]) @ variables["b"]["kernel"]


@pytest.fixture(scope="module")
def images() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (2, 8, 8, 3))


@pytest.fixture(scope="module")
def resnet(images: jax.Array) -> Small:
    module = build("resnet20", **CONFIG)
    variables = initialize(module, jax.random.key(0), images.shape)
    return half(evaluation_function(module), variables, images)


@pytest.fixture(scope="module")
def plain() -> Small:
    keys = jax.random.split(jax.random.key(2))
    variables = {
        "a": {"kernel": jax.random.normal(keys[0], (3, 6))},
        "b": {"kernel": jax.random.normal(keys[1], (6, 2))},
    }
    return half(mlp, variables, jnp.ones((2, 3)))


@pytest.fixture
def folder(tmp_path: Path, plain: Small) -> Path:
    """An artifact of the plain function."""
    save(tmp_path / "artifact", plain.prune, plain.small)
    return tmp_path / "artifact"


def assert_same(actual: Any, expected: Any) -> None:
    """Demand equal paths, dtypes and bits."""
    actual, expected = flatten_with_paths(actual)[0], flatten_with_paths(expected)[0]
    assert list(actual) == list(expected)
    for path, leaf in expected.items():
        leaf = jnp.asarray(leaf)
        assert (actual[path].shape, actual[path].dtype) == (leaf.shape, leaf.dtype), path
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        one, other = (jax.random.key_data(a) if is_key else a for a in (actual[path], leaf))
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes(), path


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
    outputs = function(variables, images)
    assert_same(outputs, both.function(training_function(module))(again.small, images))
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
        assert jax.tree.structure(loaded) == jax.tree.structure(tree)
        assert inspect(tmp_path)["leaves"] == len(jax.tree.leaves(tree))
    for other in ({"a": one, "b": None}, {"a": one, "b": {"c": []}}, {"a": one, "": {}}, {"": one}):
        save(tmp_path, chain(), other)
        with pytest.raises(ValueError, match="pass like="):
            load(tmp_path, abs)
        assert jax.tree.structure(load(tmp_path, abs, other)[1]) == jax.tree.structure(other)


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


class NnxNet(nnx.Module):
    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.layers = nnx.List([nnx.Linear(3, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.layers[1](self.dropout(nnx.relu(self.layers[0](x))))


def equinox_net() -> Any:
    return eqx.nn.MLP(3, 2, 6, depth=1, key=jax.random.key(0))


@pytest.mark.parametrize(("adapter", "make"), [(from_nnx, NnxNet), (from_equinox, equinox_net)])
def test_trees_of_other_libraries_come_back(
    tmp_path: Path, adapter: Callable[..., Any], make: Callable[..., Any]
) -> None:
    apply, variables = adapter(make())
    x = jnp.ones((4, 3))
    one = half(apply, variables, x)
    save(tmp_path, one.prune, one.small)
    with pytest.raises(ValueError, match="pass like="):
        load(tmp_path, apply)
    for like in (variables, jax.eval_shape(lambda tree: tree, variables)):
        function, loaded = load(tmp_path, apply, like)
        assert jax.tree.structure(loaded) == jax.tree.structure(one.small)
        assert_same(loaded, one.small)
        assert_same(function(loaded, x), one.prune.function(apply)(one.small, x))


def test_an_equinox_state_comes_back(tmp_path: Path) -> None:
    pair = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, axis_name="batch", mode="batch")
    apply, variables = from_equinox(pair, train=True)
    save(tmp_path, chain(), variables)
    function, loaded = load(tmp_path, apply, like=variables)
    assert_same(function(loaded, jnp.ones((4, 3))), apply(variables, jnp.ones((4, 3))))


SHAPES = {"a": (3, 6), "b": (6, 2)}


def test_another_network_is_refused_by_leaf(folder: Path) -> None:
    like = {"a": {"kernel": jnp.ones((3, 7))}, "c": jnp.ones(2)}
    with pytest.raises(ValueError) as caught:
        load(folder, mlp, like)
    for words in ("b/kernel: missing", "c: unexpected", "a/kernel: (3, 7), expected (3, 6)"):
        assert words in str(caught.value)
    other_dtype = {key: {"kernel": np.zeros(shape, np.float16)} for key, shape in SHAPES.items()}
    with pytest.raises(ValueError, match="a/kernel.*float16.*expected.*float32"):
        load(folder, mlp, other_dtype)


def data_file(folder: Path) -> Path:
    (file,) = folder.glob("*.safetensors")
    return file


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 3)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def replace_text(old: str, new: str) -> Callable[[Path], None]:
    return lambda file: file.write_text(re.sub(old, new, file.read_text(), count=1))


@pytest.mark.parametrize(
    ("is_data", "damage", "error", "message"),
    [
        (True, truncate, ValueError, "truncated"),
        (True, flip, ValueError, "changed"),
        (True, Path.unlink, FileNotFoundError, "missing"),
        (False, truncate, ValueError, "truncated"),
        (False, Path.unlink, FileNotFoundError, "there is no"),
        (False, lambda file: file.write_bytes(b"\xff\x00"), ValueError, "truncated or something"),
        (False, lambda file: file.write_text("[]"), ValueError, "truncated or something"),
        (False, replace_text(r'"keep": \{"1": \[0', '"keep": {"1": [4'), ValueError, "changed"),
        (False, replace_text('"format": 1', '"format": 3'), ValueError, "update jaxcompress"),
    ],
)
def test_damage_is_one_clear_error(
    folder: Path, is_data: bool, damage: Callable[[Path], None], error: Any, message: str
) -> None:
    file = data_file(folder) if is_data else folder / "structure.json"
    before = file.read_bytes()
    damage(file)
    assert not file.exists() or file.read_bytes() != before
    with pytest.raises(error, match=message) as caught:
        load(folder, mlp)
    assert str(file) in str(caught.value)


def test_missing_functions_and_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names no shipped network; pass `apply`"):
        load(folder)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(tmp_path / "nowhere", mlp)


def test_64_bits_are_not_halved_silently(tmp_path: Path) -> None:
    with jax.enable_x64(True):
        save(tmp_path, chain(), {"a": jnp.ones(2, jnp.float64)})
        assert load(tmp_path, abs)[1]["a"].dtype == jnp.float64
    with pytest.raises(ValueError, match="a: float64.*jax_enable_x64"):
        load(tmp_path, abs)


def test_what_cannot_be_loaded_is_not_saved(tmp_path: Path, plain: Small) -> None:
    refused: list[tuple[Any, Any, dict[str, Any], str]] = [
        (plain.prune, plain.variables, {}, r"a/kernel: \(3, 6\), expected \(3, 3\)"),
        (plain.prune, {"a": plain.small["a"]}, {}, "b/kernel: missing"),
        (chain(), {"a": "text", "b": jax.ShapeDtypeStruct((2,), float)}, {}, "a: str.*b: Shape"),
        (chain(), {"a": jnp.ones(2, jnp.int4)}, {}, "a: int4"),
        (chain(), {"a": 1.0}, {"metadata": {"when": {1, 2}}}, "metadata must be plain JSON"),
        (chain(), {"a": 1.0}, {"metadata": {"shape": (1, 2)}}, "metadata must survive JSON"),
        (chain(), {"a": 1.0}, {"network": ("resnet", {})}, "no network is called 'resnet'"),
        (chain(), {"a": 1.0}, {"network": ("resnet20", {"wide": 2})}, "no field 'wide'"),
        (chain(), {"a": 1.0}, {"network": ("resnet20", {"dtype": jnp.float32})}, "of resnet20"),
    ]
    for compression, variables, keywords, message in refused:
        with pytest.raises((TypeError, ValueError), match=message):
            save(tmp_path / "refused", compression, variables, **keywords)
    assert not (tmp_path / "refused").exists()


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
    expected = resnet.prune.function(original)(resnet.small, images)
    assert_same(function(variables, images), expected)


@contextlib.contextmanager
def crashing(monkeypatch: pytest.MonkeyPatch, step: int) -> Iterator[None]:
    """Let the `step`-th system call of a save, and all after it, fail."""
    calls = 0

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **keywords: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > step:
                raise KeyboardInterrupt
            return call(*arguments, **keywords)

        return wrapper

    with monkeypatch.context() as patch:
        for name in ("replace", "fsync", "open", "unlink"):
            patch.setattr(os, name, guarded(getattr(os, name)))
        yield


def test_an_interrupted_save_leaves_the_old_or_the_new(
    folder: Path, plain: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = jax.tree.map(lambda leaf: leaf + 1, plain.small)
    outcomes = []
    for step in range(40):
        save(folder, plain.prune, plain.small)
        try:
            with crashing(monkeypatch, step):
                save(folder, plain.prune, new)
        except KeyboardInterrupt:
            finished = False
        else:
            finished = True
        _, loaded = load(folder, mlp)
        is_new = bool(loaded["a"]["kernel"][0, 0] == new["a"]["kernel"][0, 0])
        assert_same(loaded, new if is_new else plain.small)
        outcomes.append(is_new)
        if finished:
            break
    assert finished and outcomes == sorted(outcomes)
    assert 5 <= outcomes.count(False) and 2 <= outcomes.count(True)
    assert names_in(folder) == {".lock", "structure.json", data_file(folder).name}


ENDLESS = """
import sys, jax.numpy as jnp
from jaxcompress.artifact import save
from jaxcompress.compression import chain
i = 0
while True:
    save(sys.argv[1], chain(), {"a": jnp.full((100_000,), i, jnp.int32), "b": jnp.int32(i)})
    i += 1
    print(i, flush=True)
"""


def test_a_killed_process_leaves_a_whole_artifact(tmp_path: Path) -> None:
    waits = random.Random(0)
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        for _ in range(2):
            saved = int(writer.stdout.readline())
        time.sleep(waits.uniform(0, 0.2))
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        _, loaded = load(tmp_path, abs)
        assert int(loaded["b"]) >= saved - 1 and bool((loaded["a"] == loaded["b"]).all())
        writer.stdout.close()
