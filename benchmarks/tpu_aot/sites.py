"""Tables of latencies for a TPU that is not there: each conv and dot compiled alone.

An operation alone would read its operand from, and write its result to, the memory of the chip;
inside a network most of both stay on the core. So a producer and a consumer stand around it, which
barriers keep from being fused with it, and whose cycles are left out (`FRAME`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.tpu_aot.reading import read_text
from benchmarks.tpu_aot.topology import cycles_to_seconds, described_devices, described_mesh
from jaxcompress.annotations import Array
from jaxcompress.files import write_json
from jaxcompress.graph import Operation
from jaxcompress.parallel import replicated

__all__ = ["FRAME", "estimated_seconds"]

FRAME = "frame_of_the_operation"


def estimated_seconds(
    topology: str, cache: Path
) -> Callable[[Operation, tuple[jax.ShapeDtypeStruct, ...]], float]:
    """Return the `seconds` of `jaxcompress.latency.latency_table`, for one chip of a topology.

    Args:
        topology: such as "v5e:1x1".
        cache: a file of cycles by what was compiled, read and written.
    """
    mesh = described_mesh(described_devices(topology)[:1])
    known: dict[str, int] = json.loads(cache.read_text()) if cache.exists() else {}

    def seconds(operation: Operation, inputs: tuple[jax.ShapeDtypeStruct, ...]) -> float:
        shapes = [leaf.shape for leaf in inputs]
        text = repr((topology, operation.same_as, shapes))
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in known:
            whole = replicated(mesh)
            jitted = jax.jit(_framed(operation), in_shardings=whole, out_shardings=whole)
            compiled = jitted.lower(*inputs).compile()
            known[key] = max(read_text(str(compiled.as_text()), without=FRAME).cycles, 1)
            print(f"{operation.name} {shapes}: {known[key]:,} cycles", flush=True)
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_json(cache, known)
        return cycles_to_seconds(known[key], topology)

    return seconds


def _framed(operation: Operation) -> Callable[..., Any]:
    def run(*operands: Array) -> Array:
        with jax.named_scope(FRAME):
            before = [leaf * jnp.asarray(2, leaf.dtype) for leaf in operands]
        before = jax.lax.optimization_barrier(before)
        after = jax.lax.optimization_barrier(operation.run(*before))
        with jax.named_scope(FRAME):
            return after.sum(0)

    return run
