"""Time as a budget: what each operation of the whole network takes, measured here or given.

Of several processes the first alone measures, on one device; all read what it has written.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax

import jaxcompress as jc
from experiments.common.progress import steps
from experiments.compress.budget import check_reachable, parsed, structural
from experiments.compress.making import Making, digest
from experiments.compress.methods import traced
from experiments.compress.model import Model
from jaxcompress.annotations import Json
from jaxcompress.processes import by_first

__all__ = ["BATCH", "latency_of", "table_problems", "with_times"]

BATCH = 64
"""Examples of a call that is timed."""
REPEATS = 10
MOST_SECONDS = 4 * 3600.0
"""How long others wait for the first, which alone measures."""


def with_times(making: Making, key: str) -> Making:
    """Return what stages share with a table of times in it, where the budget limits time.

    Args:
        making: what stages share.
        key: digest of the whole network and its data.
    """
    config, shares = making.config, parsed(making.config.budget)
    if "latency" not in shares:
        return making
    if config.latency_table is not None:
        table = jc.latency.load_table(config.latency_table)
    else:
        device = jax.devices()[0].device_kind
        name = f"latency-{digest(key, BATCH, device)}"
        file = making.stages.workdir / f"{name}.json"

        def work() -> float:
            table = measured(making, device)
            jc.latency.save_table(file, table)
            return 1e3 * table.seconds

        def by_one() -> dict[str, Json]:
            about = "timing convs and dots"
            return {"milliseconds": by_first(about, work, seconds=MOST_SECONDS)}

        making.stages.run(name, by_one, [file.name])
        table = jc.latency.load_table(file)
    making = dataclasses.replace(making, table=table)
    making.console.print(
        f"latency: convs and dots take {1e3 * table.seconds:.1f} ms for {table.batch} examples on "
        f"{table.device}, {table.how}"
    )
    # The table of another network is refused by the graph, what channels cannot reach by the check.
    asked = structural(shares, "sparse" in config.stages)
    check_reachable(asked, making.graph, config.protect)
    return making


def measured(making: Making, device: str) -> jc.latency.LatencyTable:
    """Time each operation of the whole network here, at the widths that it may be left with."""
    graph = traced(making.task, making.task.model, BATCH)
    groups = jc.graph.internal_groups(graph) or None
    asked: list[int] = []

    def counted(operation: Any, inputs: Any) -> float:
        asked.append(len(asked))
        return 1.0

    jc.latency.latency_table(graph, counted, device=device, how="counted", groups=groups)
    ticks = steps(asked, len(asked), "timing convs and dots", making.console)
    time = jc.latency.measured_seconds(REPEATS)

    def shown(operation: Any, inputs: Any) -> float:
        next(ticks)
        return time(operation, inputs)

    return jc.latency.latency_table(graph, shown, device=device, how="measured", groups=groups)


def latency_of(making: Making, model: Model) -> float:
    """Return what the convs and dots of a network take by the table, in microseconds."""
    graph = making.traced(model)
    return float(graph.cost.of("latency", graph.cost.dense))


def table_problems(path: Path | None) -> list[str]:
    """Say why a table cannot be read."""
    if path is None:
        return []
    try:
        jc.latency.load_table(path)
    except (OSError, ValueError) as error:
        return [f"latency_table: {path} cannot be read ({error}); write one by save_table"]
    return []
