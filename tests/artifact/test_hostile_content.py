"""What no artifact can say, signed anew: refused by name, before memory is spent on it."""

from __future__ import annotations

import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes

from jaxcompress.artifact import Encoding, load, save
from jaxcompress.compression import chain
from tests.artifact.forged import Content, Leaves, content_of, two_layers, with_data, write


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
    artifacts: dict[Path, Leaves], tmp_path: Path, change: Callable[[Content], None], message: str
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


SPARE = {"shape": [8], "dtype": "float32"}
FOLDED = {"shape": [12], "dtype": "float32", "kernel": {"shape": [3, 4], "dtype": "float32"}}


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (SPARE | {"shape": [-8]}, "gain: no shape and dtype"),
        (SPARE | {"dtype": "O"}, "gain: no shape and dtype"),
        (SPARE | {"dtype": ["float32"]}, "gain: no shape and dtype"),
        (SPARE | {"kernel": {"shape": [8]}, "digest": "0"}, "gain: no kernel"),
        (FOLDED, "gain: no kernel"),
        (FOLDED | {"digest": "0", "shape": [13]}, "gain: folded to a kernel of another size"),
        (FOLDED | {"digest": "0"}, r"gain: folded to \(3, 4\), but \(0,\) is stored"),
        (SPARE | {"shape": [2**31 - 1]}, "axes of more than"),
    ],
)
def test_what_no_folding_can_say_is_refused_by_name(
    tmp_path: Path, leaf: Any, message: str
) -> None:
    save(tmp_path / "good", chain(), {"gain": jnp.zeros(0)})
    content = content_of(tmp_path / "good")
    data = (tmp_path / "good" / content["file"]["name"]).read_bytes()
    content["spec"] = {"kind": "fold", "leaves": {"gain": leaf}}
    content["original_shapes"] = {"gain": [8]}
    write(tmp_path / "bad", content, data)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "bad", lambda variables, x: x)


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
    artifacts: dict[Path, Leaves], tmp_path: Path, part: str, array: np.ndarray, message: str
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
