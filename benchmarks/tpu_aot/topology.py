"""TPUs that are described, not there: the one module that uses `jax.experimental.topologies`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

__all__ = ["CLOCKS", "cycles_to_seconds", "described_devices", "described_mesh", "set_environment"]

# Cycles per second: the published peak of bfloat16 over what the matrix units do in a cycle.
CLOCKS = {"v4": 1.05e9, "v5e": 1.5e9, "v5p": 1.75e9, "v6e": 1.75e9}


def set_environment() -> None:
    """Tell libtpu, before it is loaded, that there is no TPU to ask and that others may load it."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")


def described_devices(name: str) -> list[Any]:
    """Return the devices of a topology such as "v5e:2x2"; of "v5e:1x1", one chip.

    Raises:
        ValueError: if the clock of such chips is not known.
    """
    generation, _, shape = name.partition(":")
    if generation not in CLOCKS:
        raise ValueError(f"a topology is of {sorted(CLOCKS)}, but {name!r} is not; add its clock")
    single = {"chips_per_host_bounds": (1, 1, 1)} if shape == "1x1" else {}
    described = topologies.get_topology_desc(platform="tpu", topology_name=name, **single)
    return list(described.devices)


def described_mesh(devices: Sequence[Any]) -> Mesh:
    """Arrange described devices along the axis that batches are split over."""
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def cycles_to_seconds(cycles: float, name: str) -> float:
    """Return how long cycles take on the chips of a topology."""
    return cycles / CLOCKS[name.partition(":")[0]]
