"""Compile every row for every topology, and write what the compiler says."""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

import jax

from benchmarks.tpu_aot.networks import BUILDERS, Network
from benchmarks.tpu_aot.reading import read_compiled
from benchmarks.tpu_aot.settings import Config
from benchmarks.tpu_aot.steps import STEPS, Program
from benchmarks.tpu_aot.topology import (
    cycles_to_seconds,
    described_devices,
    described_mesh,
    set_environment,
)
from experiments.common.environment import describe
from experiments.common.timing import Stopwatch
from jaxcompress.annotations import Json
from jaxcompress.files import write_json
from jaxcompress.parallel import batch_sharding, replicated

__all__ = ["compiled", "main"]


def main(config: Config) -> None:
    """Compile what is missing, row by row."""
    set_environment()
    rows = _known(config)
    for topology in config.topologies:
        devices = described_devices(topology)
        for name in config.networks:
            missing = [step for step in config.steps if _is_missing(rows, topology, name, step)]
            network = BUILDERS[name](len(devices)) if missing else None
            for step in missing:
                assert network is not None
                rows = [row for row in rows if _place(row) != (topology, name, step)]
                rows.append(_row(topology, devices, network, name, step))
                print(json.dumps(rows[-1]), flush=True)
                _write(config, rows)


def compiled(program: Program, devices: Any) -> Any:
    """Compile a program for devices, its batches split over them."""
    mesh = described_mesh(devices)
    shardings = tuple(
        replicated(mesh) if axis is None else batch_sharding(mesh, axis) for axis in program.split
    )
    jitted = jax.jit(program.function, in_shardings=shardings, donate_argnums=program.donate)
    return jitted.lower(*program.arguments).compile()


def _row(
    topology: str, devices: list[Any], network: Network, name: str, step: str
) -> dict[str, Json]:
    row: dict[str, Json] = {
        "topology": topology,
        "network": name,
        "step": step,
        "chips": len(devices),
    }
    row |= {"kind": devices[0].device_kind, "commit": describe()["commit"]}
    watch = Stopwatch()
    try:
        row |= read_compiled(compiled(STEPS[step](network), devices))
    # Whatever a compiler or the library refuses is the row's result.
    except Exception as error:  # noqa: BLE001
        return row | {"error": f"{type(error).__name__}: {error}"[:400]}
    row["milliseconds"] = 1e3 * cycles_to_seconds(row["cycles"], topology)
    return row | {"compile_seconds": round(watch.seconds, 1)}


def _place(row: dict[str, Json]) -> tuple[str, str, str]:
    return row["topology"], row["network"], row["step"]


def _is_missing(rows: list[dict[str, Json]], *place: str) -> bool:
    return all(_place(row) != place for row in rows)


def _known(config: Config) -> list[dict[str, Json]]:
    if config.again or not config.output.exists():
        return []
    return list(json.loads(config.output.read_text())["rows"])


def _write(config: Config, rows: list[dict[str, Json]]) -> None:
    environment = describe()
    environment["device"] = f"none: compiled for {', '.join(sorted({r['kind'] for r in rows}))}"
    environment["versions"]["libtpu"] = importlib.metadata.version("libtpu")
    config.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(config.output, {"environment": environment, "rows": rows})
