"""Gradient steps whose batches come from the host: shared by all devices of all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from jaxcompress import parallel
from jaxcompress.annotations import Array, Batch, Function
from jaxcompress.backend.wide_sums import wide_sums
from jaxcompress.training import Step, TrainState

__all__ = ["keyed", "keyed_step", "shared_batch"]


def keyed(step: Step) -> Step:
    """Return a step that takes one key for all steps, each of which has its own of it.

    Args:
        step: `step(state, batch, key) -> (state, metrics)`.

    Example:
        >>> count = lambda state, batch, key: (state._replace(step=state.step + 1), {})
        >>> int(keyed(count)(TrainState({}, (), 3), {}, jax.random.key(0))[0].step)
        4
    """

    def run(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Any]:
        return step(state, batch, jax.random.fold_in(key, state.step))

    return run


def keyed_step(
    step: Step, mesh: Mesh, compiled: Callable[[Function], Function] = jax.jit
) -> Function:
    """Compile `keyed(step)` for some devices.

    State and key lie on all devices, see `parallel.replicate`.

    Args:
        step: `step(state, batch, key) -> (state, metrics)`.
        mesh: the devices.
        compiled: how, where there is one device.

    Example:
        >>> add = lambda state, batch, key: (state._replace(step=state.step + 1), {"sum": batch})
        >>> run = keyed_step(add, parallel.mesh(jax.devices()[:1]))
        >>> int(run(TrainState({}, (), jax.numpy.int32(3)), 2.0, jax.random.key(0))[0].step)
        4
    """
    if mesh.size == 1:
        return compiled(keyed(step))
    return jax.jit(wide_sums(keyed(step)), out_shardings=parallel.replicated(mesh))


def shared_batch(batch: Mapping[str, Array], mesh: Mesh) -> Any:
    """Split a batch over the devices; where that leaves a rest, each of them takes all of it.

    Args:
        batch: `[examples, ...]` on the host, the same in all processes, each of which passes on
            the part of its own devices.
        mesh: the devices.

    Example:
        >>> one = parallel.mesh(jax.devices()[:1])
        >>> shared_batch({"label": jax.numpy.arange(3)}, one)["label"].shape
        (3,)
    """
    size = len(next(iter(batch.values())))
    if size % mesh.size:
        return parallel.replicate(dict(batch), mesh)
    each, number = size // jax.process_count(), jax.process_index()
    part = slice(number * each, (number + 1) * each)
    return parallel.shard_batch({name: array[part] for name, array in batch.items()}, mesh)
