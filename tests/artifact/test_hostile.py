"""Artifacts of somebody else, signed anew: refused by name, or loaded with the values saved."""

from __future__ import annotations

import copy
import hashlib
import json
import lzma
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes

from jaxcompress.artifact import Encoding, inspect, load, save
from jaxcompress.artifact.structure import _digest
from jaxcompress.compression import chain
from jaxcompress.graph import trace
from jaxcompress.low_rank import factorize
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import shrink

Content = dict[str, Any]
RANDOM = np.random.default_rng(0)


def two_layers(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ variables["a"]["kernel"]) @ variables["b"]["kernel"]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Any]:
    """Shrunk, then factorized, stored in every way, with the leaves that belong to each folder."""
    variables = {
        "a": {"kernel": jnp.asarray(RANDOM.normal(size=(8, 12)), jnp.float32)},
        "b": {"kernel": jnp.asarray(RANDOM.normal(size=(12, 4)), jnp.float32)},
        "key": jax.random.key(1),
        "count": jnp.int32(3),
    }
    x = jnp.ones((2, 8))
    graph = trace(two_layers, variables, x)
    keep = {name: np.arange(group.width) % 2 == 0 for name, group in graph.groups.items()}
    prune = shrink(graph, keep)
    shrunk = prune.variables(variables)
    lowrank = factorize(trace(prune.function(two_layers), shrunk, x), {"a/kernel": 2})
    both, small = chain(prune, lowrank), lowrank.variables(shrunk)
    leaves = {}
    root = tmp_path_factory.mktemp("artifacts")
    for name, encoding in {
        "plain": None,
        "exact": Encoding(),
        "bfloat16": Encoding("bfloat16"),
        "int8": Encoding("int8"),
    }.items():
        save(root / name, both, small, encoding=encoding, metadata={"by": "hand"})
        leaves[root / name] = bits(load(root / name, two_layers)[1])
    return leaves


def bits(variables: Any) -> dict[str, tuple[str, bytes]]:
    leaves, _ = flatten_with_paths(variables)
    plain = {
        path: jax.random.key_data(leaf) if path == "key" else leaf for path, leaf in leaves.items()
    }
    return {
        path: (f"{leaf.dtype} {leaf.shape}", np.asarray(leaf).tobytes())
        for path, leaf in plain.items()
    }


def content_of(folder: Path) -> Content:
    content: Content = json.loads((folder / "structure.json").read_text())
    del content["sha256"]
    return content


def write(folder: Path, content: Content, data: bytes) -> None:
    """Write an artifact with whatever content, signed as `save` would."""
    folder.mkdir(parents=True, exist_ok=True)
    file = content.get("file")
    if isinstance(file, dict) and isinstance(file.get("name"), str) and "/" not in file["name"]:
        (folder / file["name"]).write_bytes(data)
    signed = {**content, "sha256": _digest(content)}
    (folder / "structure.json").write_text(json.dumps(signed))


def with_data(content: Content, data: bytes) -> tuple[Content, bytes]:
    digest = hashlib.sha256(data).hexdigest()
    name = f"variables-{digest[:16]}.safetensors"
    return {**content, "file": {"name": name, "size": len(data), "sha256": digest}}, data


VALUES = (
    *(None, True, False, -1, 0, 1, 2, 3, 7, 2**31, 2**63, 10**30, 1.5, float("nan"), float("inf")),
    *("", "x", "../x", "/etc/passwd", "float16", "int8", "bfloat16", "spatial", "channel"),
    *([], [1], [-1], [0, 0], [2**31], ["a"], [[1]], [True], {}, {"0": [0]}, {"kind": "shrink"}),
)


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) below a node of JSON."""
    for key in node if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places(node[key])


def changed_structure(draw: random.Random, content: Content, data: bytes) -> tuple[Content, bytes]:
    """Change, remove, add or double one thing somewhere in the structure."""
    content = copy.deepcopy(content)
    node, key = draw.choice(list(places(content)))
    way = draw.randrange(5)
    if way == 0:
        del node[key]
    elif way == 1 and isinstance(node[key], int):
        node[key] = node[key] + draw.choice([-1, 1, 2**20, 2**31, -(2**31), 0.5])
    elif way == 2 and isinstance(node[key], list):
        node[key] = node[key] * 2 if draw.random() < 0.5 else node[key][::-1][:-1]
    else:
        node[key] = copy.deepcopy(draw.choice(VALUES))
    return content, data


def changed_tensors(draw: random.Random, content: Content, data: bytes) -> tuple[Content, bytes]:
    """Change one tensor's dtype, shape, presence or name."""
    (folder,) = content["folder"]
    tensors = dict(load_file(folder / content["file"]["name"]))
    name = draw.choice(sorted(tensors))
    tensor = tensors.pop(name)
    ways: list[Callable[[], dict[str, Any]]] = [
        dict,
        lambda: {name: tensor.reshape(-1)[:-1]},
        lambda: {name: tensor.reshape(1, -1)},
        lambda: {name: tensor.astype(np.float16)},
        lambda: {name: tensor, "more": tensor},
        lambda: {name + "/more": tensor},
        lambda: {name: np.frombuffer(lzma.compress(bytes(2**24)), np.uint8)},
        lambda: {name: np.frombuffer(lzma.compress(tensor.tobytes()), np.uint8)},
        lambda: {name: np.concatenate([tensor.reshape(-1)] * 2)},
    ]
    return with_data(content, to_bytes({**tensors, **draw.choice(ways)()}))


def changed_bytes(draw: random.Random, content: Content, data: bytes) -> tuple[Content, bytes]:
    """Break the header or cut the file, signed anew."""
    at = draw.randrange(min(len(data), 200))
    flipped = data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]
    return with_data(content, draw.choice([flipped, data[:at], data + b"more"]))


def test_300_hostile_artifacts_are_refused_or_loaded_right(
    artifacts: dict[Path, Any], tmp_path: Path
) -> None:
    draw = random.Random(0)
    refused = 0
    for number in range(300):
        source = draw.choice(list(artifacts))
        content = content_of(source)
        data = (source / content["file"]["name"]).read_bytes()
        change = draw.choice([changed_structure, changed_structure, changed_tensors, changed_bytes])
        if change is changed_tensors:
            content["folder"] = [source]
        content, data = change(draw, content, data)
        content.pop("folder", None)
        folder = tmp_path / str(number)
        write(folder, content, data)
        refused += is_refused(folder, artifacts[source])
    assert 200 < refused < 300


def is_refused(folder: Path, expected: dict[str, tuple[str, bytes]]) -> bool:
    tracemalloc.start()
    started = time.process_time()
    try:
        leaves = bits(load(folder, two_layers)[1])
        inspect(folder)
    except (ValueError, FileNotFoundError) as error:
        assert str(folder) in str(error) or any(path in str(error) for path in expected), error
        return True
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.process_time() - started < 2 and peak < 64 * 2**20
    for path, (_, data) in expected.items():
        assert leaves[path][1] == data, path
    return False


def set_at(*keys: Any, to: Any) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        node: Any = content
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = to

    return change


SHRINK, FACTORIZE = ("spec", "steps", 0, "leaves", "a/kernel"), ("spec", "steps", 1, "sites")
SITE = (*FACTORIZE, "a/kernel")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at("file", "name", to="../plain/structure.json"), "file: name is '../plain"),
        (set_at("file", "size", to=True), "file: size is True"),
        (set_at(*SHRINK, "shape", to=[2**31 - 1, 12]), r"a/kernel: its kept indices leave"),
        (set_at(*SHRINK, "shape", to=[8, 2**31 - 1]), r"indices keep only"),
        (set_at(*SHRINK, "keep", "1", to=[0, 2, 4, 6, 8, 12]), "go beyond its size 12"),
        (set_at(*SHRINK, "keep", "1", to=[0, 2, 4, 6, 8, 8]), "no rising whole numbers"),
        (set_at(*SHRINK, "keep", "1", to=[0, 1.0, 2, 3, 4, 5]), "no rising whole numbers"),
        (set_at(*SHRINK, "keep", to={"-1": [0]}), "no axis '-1'"),
        (set_at(*SITE, "rank", to=True), "a/kernel: no form, rank.*rank True"),
        (set_at(*SITE, "rank", to=7), "rank 7"),
        (set_at(*SITE, "rank", to=3), r"a/kernel: factors of \(\(8, 3\), \(3, 6\)\) by rank"),
        (set_at(*SITE, "form", to="spatial"), "a/kernel: no form"),
        (set_at(*SITE, "layout", "free", to=[0]), "a/kernel: no form.*layout"),
        (set_at(*SITE, "steps", to=[["reshape", [-1, 6]]]), "a/kernel: no form.*reshape"),
        (set_at("spec", "steps", 1, to={"kind": "chain", "steps": []}), "a step of kind 'chain'"),
        (set_at("spec", to={"kind": ["shrink"]}), r"kind \['shrink'\] without what it changes"),
        (set_at("leaves", "count", "shape", to=[2**31]), "count: no shape"),
        (set_at("leaves", "count", "dtype", to="float4"), "count: dtype is 'float4'"),
        (set_at("leaves", "key", "key_impl", to="mine"), "key: .* instead of"),
        (set_at("leaves", "b/kernel", "nonzero", to=25), "b/kernel: nonzero is 25"),
        (set_at("leaves", "b/kernel", "nonzero", to=20), "b/kernel: 24 values.*says 20"),
        (set_at("leaves", "b/kernel", "stored", "sparse", to=0), "b/kernel: stored as.*true or"),
        (set_at("original_shapes", "a/kernel", to=[8, 13]), "original_shapes: a/kernel"),
        (set_at("original_shapes", "c", to=[8]), "original_shapes: c"),
        (set_at("nested", to=1), "nested: a int"),
        (set_at("more", to=1), "more: unknown"),
        (set_at("empty", to=["a/kernel"]), "empty: 'a/kernel' is not empty"),
        (set_at("empty", to=["c", "count/c", 3, "c"]), "count/c' is no.* 3 is no.* 'c' is no"),
        (set_at("format", to=True), "format: True"),
    ],
)
def test_what_no_artifact_can_say_is_refused_by_name(
    artifacts: dict[Path, Any], tmp_path: Path, change: Callable[[Content], None], message: str
) -> None:
    source = next(folder for folder in artifacts if folder.name == "int8")
    content = content_of(source)
    data = (source / content["file"]["name"]).read_bytes()
    change(content)
    write(tmp_path, content, data)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        load(tmp_path, two_layers)
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def packed(array: Any) -> np.ndarray:
    return np.frombuffer(lzma.compress(np.asarray(array).tobytes()), np.uint8)


@pytest.mark.parametrize(
    ("part", "array", "message"),
    [
        ("scales", np.full(4, np.nan, np.float32), "b/kernel: .*scales are finite and above 0"),
        ("scales", np.array([1, 1, -1, 1], np.float32), "scales are finite and above 0"),
        ("scales", np.full(4, 3.4e38, np.float32), "scales are beyond its dtype"),
        ("scales", np.ones(1, np.float32), "b/kernel: .*scales must have 16 bytes"),
        ("values", np.ones((1, 4), np.int8), "values must have 24 bytes.*fewer"),
        ("values", np.zeros(2**26, np.int8), "values must have 24 bytes.*more"),
    ],
)
def test_parts_are_neither_broadcast_nor_unpacked_beyond_their_size(
    artifacts: dict[Path, Any], tmp_path: Path, part: str, array: np.ndarray, message: str
) -> None:
    source = next(folder for folder in artifacts if folder.name == "int8")
    content = content_of(source)
    tensors = load_file(source / content["file"]["name"])
    tensors[f"b/kernel:{part}"] = packed(array)
    write(tmp_path, *with_data(content, to_bytes(tensors)))
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        load(tmp_path, two_layers)
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()


def test_deep_and_long_json_is_one_clear_error(tmp_path: Path) -> None:
    for text in ("[" * 100_000, '{"format": ' + "9" * 5_000 + "}", '{"a":' * 5_000 + "1"):
        (tmp_path / "structure.json").write_text(text)
        with pytest.raises(ValueError, match="truncated or something else"):
            load(tmp_path, two_layers)


def test_leaves_whose_tensors_share_a_name_are_not_saved(tmp_path: Path) -> None:
    variables = {"a": jnp.eye(8), "a:mask": jnp.ones(2)}
    with pytest.raises(ValueError, match="a:mask: another leaf has tensors of the names"):
        save(tmp_path / "new", chain(), variables, encoding=Encoding())
    assert not (tmp_path / "new").exists()
