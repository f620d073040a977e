"""Artifacts forged by hand: any content and any data, signed as `save` would."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.artifact import Encoding, load, save
from jaxcompress.artifact.structure import _digest
from jaxcompress.compression import chain
from jaxcompress.graph import trace
from jaxcompress.low_rank import factorize
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune import shrink

Content = dict[str, Any]
Leaves = dict[str, tuple[str, bytes]]
RANDOM = np.random.default_rng(0)


def two_layers(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ variables["a"]["kernel"]) @ variables["b"]["kernel"]


def stored_in_every_way(root: Path) -> dict[Path, Leaves]:
    """Save one network, shrunk, then factorized; return the leaves that belong to each folder."""
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
    for name, encoding in {
        "plain": None,
        "exact": Encoding(),
        "bfloat16": Encoding("bfloat16"),
        "int8": Encoding("int8"),
    }.items():
        save(root / name, both, small, encoding=encoding, metadata={"by": "hand"})
        leaves[root / name] = bits(load(root / name, two_layers)[1])
    return leaves


def bits(variables: Any) -> Leaves:
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
