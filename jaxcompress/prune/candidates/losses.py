"""Many candidate networks at once: one program, one compile, one shared set of variables.

Candidates differ in their gates alone. `candidate_losses` vmaps the loss over them, in chunks that
fit the memory and split over devices; what comes before the first group in which they differ is
computed once for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.compression.checks import check_groups, check_widths
from jaxcompress.graph import Graph
from jaxcompress.layouts import is_split
from jaxcompress.per_device import AxisName, average, per_device
from jaxcompress.prune.candidates.chunks import chunk_size
from jaxcompress.prune.candidates.prefix import hoist
from jaxcompress.prune.gating import gated
from jaxcompress.prune.importance.checks import check_scalar

__all__ = ["candidate_losses"]


def candidate_losses(
    graph: Graph,
    loss: Callable[[PyTree, Batch], jax.Array],
    variables: PyTree,
    gates: Mapping[str, Array],
    batch: Batch,
    *,
    together: int | None = None,
    mesh: Mesh | None = None,
    axis_name: AxisName = None,
) -> jax.Array:
    """Return the loss of every candidate on one batch.

    Under jit this is one program: a vmap over `together` candidates, which share the kernels, in a
    loop over chunks, and with a mesh that on each device for its part of the candidates.

    Args:
        graph: of a function of the variables.
        loss: `loss(variables, batch) -> scalar`; with BatchNorm in training mode every candidate
            is normalised by its own statistics.
        variables: pytree of arrays.
        gates: `{group: float[candidates, width]}`, or `[width]` for groups in which candidates do
            not differ: all that they do not reach is computed once. May be traced.
        batch: pytree of arrays, the same for all.
        together: candidates per vmap, default `chunk_size`, or 1 where the batch is split over
            devices: under a `jit` of the caller's, which does not tell, pass it.
        mesh: devices to split the candidates over.
        axis_name: of the surrounding `jax.shard_map` or `jax.pmap`, over which the batch is split;
            see `jaxcompress.per_device`.

    Returns:
        `float[candidates]`.

    Raises:
        ValueError: if a group is unknown, a shape wrong, or the loss no scalar.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((5, 3)))
        >>> loss = lambda variables, x: apply(variables, x).mean()
        >>> gates = {"a[1]": jnp.array([[1.0, 1, 1, 1], [1, 1, 0, 0]])}
        >>> losses = candidate_losses(graph, loss, variables, gates, jnp.ones((5, 3)))
        >>> round(float(losses[0] / losses[1]), 5)
        2.0
    """
    require(together=integer(together, optional=True))
    count = _check(graph, gates)
    check_scalar(loss, variables, batch)
    devices = 1 if mesh is None else mesh.size
    each = math.ceil(count / devices)
    if together is None:
        # Several would be merged into the axis of the batch, which is then gathered first.
        are_split = any(map(is_split, jax.tree.leaves(batch)))
        together = 1 if are_split else chunk_size(loss, variables, batch)
    together = max(1, min(together, each))
    padded = devices * together * math.ceil(each / together)
    shared = {name: jnp.asarray(g) for name, g in gates.items() if np.ndim(g) == 1}
    differing = {n: _pad(jnp.asarray(g), padded) for n, g in gates.items() if n not in shared}
    gated_loss = gated(graph, loss)
    shared, differing = per_device((shared, differing), axis_name, like=(variables, gates, batch))

    def part(variables: PyTree, shared: Any, gates: PyTree, batch: Batch) -> jax.Array:
        one = lambda candidate: gated_loss(variables, {**shared, **candidate}, batch)  # noqa: E731
        after = hoist(one, jax.tree.map(lambda gate: gate[0], gates))
        # Without a vmap of one, the loop's convolutions keep their plain layout.
        return lax.map(after, gates, batch_size=together if together > 1 else None)

    if mesh is not None:
        whole, split = PartitionSpec(), PartitionSpec(mesh.axis_names[0])
        part = jax.shard_map(
            part,
            mesh=mesh,
            in_specs=(whole, whole, split, whole),
            out_specs=split,
            check_vma=False,
        )
    return average(jax.jit(part)(variables, shared, differing, batch)[:count], axis_name)


def _pad(gates: jax.Array, count: int) -> jax.Array:
    return jnp.concatenate([gates, jnp.repeat(gates[-1:], count - len(gates), axis=0)])


def _check(graph: Graph, gates: Mapping[str, Array]) -> int:
    """Return the number of candidates."""
    check_groups(graph, gates, "candidates")
    shapes = {name: np.shape(gate) for name, gate in gates.items()}
    counts = {shape[0] if len(shape) == 2 else None for shape in shapes.values() if len(shape) != 1}
    if len(counts) != 1 or not all(counts):
        raise ValueError(
            "gates of candidates are [candidates, width], with one number of candidates, or "
            f"[width] where they do not differ, but have shapes {shapes}; stack one gate tree per "
            "candidate"
        )
    single = {n: gate if np.ndim(gate) == 1 else gate[0] for n, gate in gates.items()}
    check_widths(graph, single, "candidates", False)
    return int(counts.pop() or 0)
