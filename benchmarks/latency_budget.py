"""Half of the FLOPs beside half of the latency, in cycles of whole programs compiled for a TPU.

    TPU_SKIP_MDS_QUERY=1 JAX_PLATFORMS=cpu python -m benchmarks.latency_budget

needs the extra `tpu-aot` (libtpu). For each network: a table of what every conv and dot takes on
one chip at a grid of widths, each compiled alone (`benchmarks/results/latency_NETWORK.json`); then
the network shrunk by the same magnitudes under a budget of FLOPs, at any widths and at multiples of
8 and 128, and under a budget of latency by the table; each whole program compiled for the chip.
Nothing is run: cycles are the compiler's estimates. Streams of ResNet-50 stay whole, as in
`recipes.prune`; those of ResNet-56 shrink, too: without them no widths take less than 70 % of its
latency. Budgets that nothing reaches are left out, and said.
Writes `benchmarks/results/latency_budget.json`, row by row; what is there is not compiled again.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxcompress as jc
from benchmarks.tpu_aot.networks import BUILDERS, Network
from benchmarks.tpu_aot.reading import read_compiled
from benchmarks.tpu_aot.run import compiled
from benchmarks.tpu_aot.settings import NetworkName, Topology
from benchmarks.tpu_aot.sites import estimated_seconds
from benchmarks.tpu_aot.steps import Program
from benchmarks.tpu_aot.topology import cycles_to_seconds, described_devices, set_environment
from experiments.common.command import Command
from experiments.common.environment import cache_folder, describe
from jaxcompress import latency, models
from jaxcompress.annotations import Json
from jaxcompress.files import write_json
from jaxcompress.prune import Scores, importance

__all__ = ["COMMAND", "Config", "main"]

WAYS: dict[str, tuple[jc.Budget, int]] = {
    "half of the FLOPs, any widths": (jc.Budget(flops=0.5), 1),
    "half of the FLOPs, multiples of 8": (jc.Budget(flops=0.5), 8),
    "half of the FLOPs, multiples of 128": (jc.Budget(flops=0.5), 128),
    "half of the latency": (jc.Budget(latency=0.5), 1),
    "60 % of the latency": (jc.Budget(latency=0.6), 1),
}
RESULTS = Path("benchmarks/results")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compared.

    Attributes:
        topology: of one chip.
        networks: names of `tpu_aot.networks.BUILDERS`.
        points: widths of an axis in the tables, of each network.
        streams: the networks whose residual streams may shrink as well.
        cache: cycles of operations that were compiled alone.
        output: the JSON file.
    """

    topology: Topology = "v5e:1x1"
    networks: tuple[NetworkName, ...] = ("resnet56", "resnet50")
    points: tuple[int, ...] = (8, 4)
    streams: tuple[NetworkName, ...] = ("resnet56",)
    cache: Path = cache_folder() / "tpu_cycles.json"
    output: Path = RESULTS / "latency_budget.json"


def main(config: Config) -> None:
    """Compile what is missing, and write the rows."""
    set_environment()
    content = json.loads(config.output.read_text()) if config.output.exists() else {"rows": []}
    rows: list[dict[str, Json]] = content["rows"]
    for name, points in zip(config.networks, config.points, strict=True):
        network = BUILDERS[name](1)
        graph = network.graph
        groups = list(graph.groups) if name in config.streams else jc.graph.internal_groups(graph)
        table = _table(config, name, network, points, groups)
        keeps: dict[str, dict[str, np.ndarray]] = {"whole": {}, **_keeps(network, table, groups)}
        for way, keep in keeps.items():
            if any((row["network"], row["way"]) == (name, way) for row in rows):
                continue
            rows.append({"network": name, "way": way} | _row(config, network, table, keep))
            print(json.dumps(rows[-1]), flush=True)
            _write(config, rows)


def _table(
    config: Config, name: str, network: Network, points: int, groups: Sequence[str]
) -> latency.LatencyTable:
    """Return the table of a network, made if it is not there."""
    path = config.output.parent / f"latency_{name}.json"
    if not path.exists():
        images = network.batch[network.input]
        graph = jc.trace(network.apply, network.variables, images)
        made = latency.latency_table(
            graph,
            estimated_seconds(config.topology, config.cache),
            device=f"{config.topology}, compiled for",
            how=f"estimated by XLA, libtpu {importlib.metadata.version('libtpu')}",
            grid=partial(latency.width_grid, points=points),
            groups=groups,
        )
        latency.save_table(path, made)
    return latency.load_table(path)


def _keeps(
    network: Network, table: latency.LatencyTable, groups: Sequence[str]
) -> dict[str, dict[str, np.ndarray]]:
    """Select by the same magnitudes of drawn weights in every way."""
    graph = latency.with_latency(network.graph, table)
    images = network.batch[network.input]
    drawn = models.initialize(network.module, jax.random.key(0), (1, *images.shape[1:]))
    scores = importance.magnitude(graph, drawn)
    inside = {name: scores[name] for name in groups}
    kept = {}
    for way, (budget, multiple_of) in WAYS.items():
        chosen = Scores(inside, scores.source, scores.unit, scores.power)
        try:
            kept[way] = jc.select(graph, chosen, budget, multiple_of=multiple_of)
        except ValueError as error:
            print(f"{way}: {error}", flush=True)  # no widths of these steps cost so little
    return kept


def _row(
    config: Config, network: Network, table: latency.LatencyTable, keep: dict[str, np.ndarray]
) -> dict[str, Json]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        changes = latency.latency_changes(network.graph, table, keep)
    prune = jc.shrink(network.graph, keep)
    small = jax.eval_shape(prune.variables, network.variables)
    arguments = small, network.batch[network.input]
    program = Program(prune.function(network.apply), arguments, (None, 0))
    read = read_compiled(compiled(program, described_devices(config.topology)))
    return {
        "flops": changes.flops,
        "table": changes.seconds,
        "table_microseconds": 1e6 * changes.seconds * table.seconds,
        "warnings": [str(one.message) for one in said],
        "cycles": read["cycles"],
        "microseconds": 1e6 * cycles_to_seconds(read["cycles"], config.topology),
        "peak_bytes": read["peak_bytes"],
        "widths": {name: int(mask.sum()) for name, mask in keep.items()},
    }


def _write(config: Config, rows: list[dict[str, Json]]) -> None:
    environment: dict[str, Any] = describe()
    environment["device"] = f"none: compiled for {config.topology}"
    environment["versions"]["libtpu"] = importlib.metadata.version("libtpu")
    points = dict(zip(config.networks, config.points, strict=True))
    settings = {"topology": config.topology, "points": points}
    config.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(config.output, {"environment": environment, "config": settings, "rows": rows})


COMMAND = Command("benchmarks.latency_budget", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
