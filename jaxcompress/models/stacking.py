"""Layers of one kind, one after the other: each with leaves of its own, or stacked under a scan.

Both compute the same. Unrolled, `layer0`, `layer1`, ... are pruned each by itself; stacked, all
share one keep per width, whole layers may go, and the program is as small as that of one layer.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxcompress.annotations import Function, PyTree

__all__ = ["STACK", "apply_layers", "stack_layers", "unstack_layers"]

STACK = "layers"


def apply_layers(
    layer: Function, depth: int, scan: bool, hidden: jax.Array, mask: jax.Array | None, train: bool
) -> jax.Array:
    """Apply `layer(name=...)` `depth` times, inside a compact method.

    Args:
        layer: makes a module `module(hidden, mask, train) -> hidden` of the given name.
        depth: how many.
        scan: whether their variables are stacked along a first axis, under `layers`; otherwise
            they lie under `layer0`, `layer1` and so on.
        hidden: what the first one is given.
        mask: given to each.
        train: given to each.

    Returns:
        What the last one returns, of the shape of `hidden`.
    """
    if not scan:
        for number in range(depth):
            hidden = layer(name=f"layer{number}")(hidden, mask, train)
        return hidden

    def step(module: nn.Module, carry: jax.Array, mask: jax.Array | None) -> Any:
        return module(carry, mask, train), None  # type: ignore[operator]

    scanned = nn.scan(
        step,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=nn.broadcast,
        length=depth,
    )
    return scanned(layer(name=STACK), hidden, mask)[0]


def stack_layers(variables: PyTree) -> PyTree:
    """Turn variables of an unrolled network into those of a scanned one.

    Raises:
        ValueError: if no collection has a `layer0`, or the layers differ in shape.

    Example:
        >>> variables = {
        ...     "params": {"layer0": {"bias": jnp.ones(2)}, "layer1": {"bias": jnp.ones(2)}}
        ... }
        >>> stack_layers(variables)["params"]["layers"]["bias"].shape
        (2, 2)
    """
    return {name: _stacked(name, leaves) for name, leaves in variables.items()}


def _stacked(collection: str, leaves: Mapping[str, PyTree]) -> PyTree:
    names = _layer_names(leaves)
    if not names:
        raise ValueError(
            f"layers to stack are called layer0, layer1, ..., but {collection} holds "
            f"{', '.join(sorted(leaves))}; give the variables of a network with scan=False"
        )
    shapes = {name: jax.tree.map(jnp.shape, leaves[name]) for name in names}
    unlike = [name for name in names if shapes[name] != shapes["layer0"]]
    if unlike:
        raise ValueError(
            f"layers that are stacked have the same shapes, but in {collection} those of "
            f"{', '.join(unlike)} are not layer0's; leave them unrolled"
        )
    rest = {name: leaf for name, leaf in leaves.items() if name not in names}
    stack = jax.tree.map(lambda *rows: jnp.stack(rows), *(leaves[name] for name in names))
    return {**rest, STACK: stack}


def _layer_names(leaves: Mapping[str, PyTree]) -> list[str]:
    names: list[str] = []
    while f"layer{len(names)}" in leaves:
        names.append(f"layer{len(names)}")
    return names


def unstack_layers(variables: PyTree) -> PyTree:
    """Turn variables of a scanned network into those of an unrolled one, which may have fewer.

    Example:
        >>> variables = {"params": {"layers": {"bias": jnp.ones((3, 2))}}}
        >>> sorted(unstack_layers(variables)["params"])
        ['layer0', 'layer1', 'layer2']
    """
    return {name: _unstacked(leaves) for name, leaves in variables.items()}


def _unstacked(leaves: Mapping[str, PyTree]) -> PyTree:
    rest = {name: leaf for name, leaf in leaves.items() if name != STACK}
    depth = len(jax.tree.leaves(leaves[STACK])[0])
    pick = [operator.itemgetter(number) for number in range(depth)]
    layers = {f"layer{n}": jax.tree.map(pick[n], leaves[STACK]) for n in range(depth)}
    return {**rest, **layers}
