"""Artifacts changed at random and signed anew: refused by name, or loaded with the values saved."""

from __future__ import annotations

import copy
import lzma
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes

from jaxcompress.annotations import Json
from jaxcompress.artifact import inspect, load
from tests.artifact.forged import Content, Leaves, bits, content_of, two_layers, with_data, write

VALUES: tuple[Json, ...] = (
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
    artifacts: dict[Path, Leaves], tmp_path: Path
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


def is_refused(folder: Path, expected: Leaves) -> bool:
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
