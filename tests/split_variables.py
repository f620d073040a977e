"""A network whose variables are split over eight devices, in two layouts, and how that is checked.

Over a second axis of the mesh, and over the axis that splits the batch as well.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxcompress as jc
from jaxcompress import parallel

__all__ = [
    "GRAPH",
    "IMAGES",
    "KEY",
    "LABELS",
    "MESHES",
    "TX",
    "VARIABLES",
    "apply",
    "check_split",
    "drawn",
    "each_mesh",
    "forward",
    "layout",
    "loss",
    "prune_to",
    "same",
    "share_of",
    "split_over",
]

KEY, TX = jax.random.key(0), optax.adam(1e-2)
MESHES = {
    "a second axis": jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2),
    "the batch's axis": parallel.mesh(),
}
each_mesh = pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)


def drawn(number: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(KEY, number), shape) / 4


VARIABLES = {
    "params": {
        "first": {"kernel": drawn(0, 3, 3, 8, 32), "bias": drawn(1, 32)},
        "second": {"kernel": drawn(2, 32, 64), "bias": drawn(3, 64)},
        "third": {"kernel": drawn(4, 64, 8)},
    },
    "batch_stats": {"mean": drawn(5, 32)},
}
AXES = {"first": 3, "second": 0, "third": 0}
"""Along which axis of its kernel each layer is split."""
IMAGES, LABELS = drawn(6, 16, 6, 6, 8), jnp.arange(16) % 8


def layout(mesh: Mesh) -> Any:
    """Split kernels and their moments; leave what has one axis to every device."""
    name = mesh.axis_names[-1]

    def each(path: Any, leaf: jax.Array) -> NamedSharding:
        layer = next((key for key in AXES if f"'{key}'" in jax.tree_util.keystr(path)), None)
        spec = P() if leaf.ndim == 1 or layer is None else P(*[None] * AXES[layer], name)
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(each, VARIABLES)


def split_over(mesh: Mesh) -> Any:
    return jax.device_put(VARIABLES, layout(mesh))


def forward(variables: Any, images: jax.Array, train: bool) -> Any:
    params = variables["params"]
    dimensions = ("NHWC", "HWIO", "NHWC")
    hidden = jax.lax.conv_general_dilated(
        images, params["first"]["kernel"], (2, 2), "SAME", dimension_numbers=dimensions
    )
    mean = hidden.mean((0, 1, 2)) if train else variables["batch_stats"]["mean"]
    hidden = jnp.tanh(hidden - mean + params["first"]["bias"]).mean((1, 2))
    hidden = jnp.tanh(hidden @ params["second"]["kernel"] + params["second"]["bias"])
    return hidden @ params["third"]["kernel"], mean


def apply(variables: Any, images: jax.Array) -> jax.Array:
    return forward(variables, images, train=False)[0]


def loss(variables: Any, batch: Any, key: jax.Array) -> Any:
    logits, mean = forward(variables, batch["image"], train=True)
    value = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()
    return value, ({"batch_stats": {"mean": mean}}, {})


GRAPH = jc.trace(apply, VARIABLES, IMAGES)


def prune_to(first: int) -> jc.Compression:
    """Keep so many of 32 channels, and every second of 64."""
    places = {32: np.random.default_rng(0).permutation(32) < first, 64: np.arange(64) % 2 == 0}
    return jc.shrink(GRAPH, {name: places[group.width] for name, group in GRAPH.groups.items()})


def share_of(leaf: Any) -> float:
    """Return which part of a leaf the device with the most of it holds."""
    return max(shard.data.size for shard in leaf.addressable_shards) / leaf.size


def check_split(tree: Any, mesh: Mesh) -> None:
    """Raise unless everything with several axes is split over all of the layout's axis."""
    parts = mesh.shape[mesh.axis_names[-1]]
    wide = {p: leaf for p, leaf in jc.paths.flatten_with_paths(tree)[0].items() if leaf.ndim > 1}
    assert wide and {p: share_of(leaf) for p, leaf in wide.items()} == dict.fromkeys(
        wide, 1 / parts
    )


def same(actual: Any, desired: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, actual, desired)
