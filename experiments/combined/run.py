"""The stages: a split for every sequence and budget, then a network for each and a seed."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

import jaxcompress as jc
from experiments.combined.checks import check, points, targets
from experiments.combined.making import INT8, Making, num_bytes
from experiments.combined.plot import plot
from experiments.combined.rows import averaged
from experiments.combined.settings import Config, Target, Way, steps_of
from experiments.combined.ways import SPLITS, Parts, network_at
from experiments.common import data, environment, report
from experiments.common.holding import agree_on_settings
from experiments.common.measure import accuracy_of, count_nonzero
from experiments.common.network import Network
from experiments.common.published import load
from experiments.common.stages import Stages
from experiments.common.table import table
from jaxcompress import artifact, parallel, sparse
from jaxcompress.annotations import Batch, Function, Json, PyTree
from jaxcompress.files import file_digest
from jaxcompress.processes import by_first

__all__ = ["main"]

CONSOLE = Console()
FREE = ("workdir", "data_dir", "ways", "bytes", "flops", "seeds")
"""Every point has a stage of its own, so that more of them may join later."""
STEPS = ("right after", "taught")


def main(config: Config) -> list[report.Row]:
    """Run all stages that are not done, and return the rows of the report.

    Raises:
        ValueError: before anything is read or computed, naming every setting that cannot be meant.
    """
    check(config)
    environment.prepare(several=True)
    agree_on_settings(config)
    assert config.weights is not None  # as checked
    whole, dataset = load(config.network, config.weights, config.dataset, config.data_dir)
    with Stages(config.workdir, settings_of(config, dataset), CONSOLE) as stages:
        some = data.first(dataset, test_images=config.test_images)
        return run_all(config, whole, some, stages)


def settings_of(config: Config, dataset: data.Dataset) -> dict[str, Json]:
    """Return the settings that all stages of one folder share: of files, what they hold."""
    plain = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    kept = {name: value for name, value in plain.items() if name not in FREE}
    assert config.weights is not None  # as checked
    return {**kept, "weights": file_digest(config.weights), "data": data.identity(dataset)}


def run_all(
    config: Config, whole: Network, dataset: data.Dataset, stages: Stages
) -> list[report.Row]:
    """Choose splits, make and measure every network, and write the report; seed by seed."""
    makings = {seed: Making(config, whole, dataset, seed) for seed in {0, *config.seeds}}
    known = {"whole": [stages.run("whole", functools.partial(measured_whole, makings[0]))]}
    first = {target.kind: target for target in reversed(targets(config))}
    for seed in config.seeds:
        for way, target in points(config):
            name = f"{way}-{target.name}"
            parts = split_of(makings[0], way, first[target.kind], stages)
            work = functools.partial(
                point, makings[seed], way, target, parts, config.workdir / f"{name}-seed{seed}"
            )
            facts = stages.run(f"{name}-seed{seed}", work)
            known.setdefault(name, []).append(facts)
            CONSOLE.print(f"    {_told(facts)}")
    rows = averaged(known, points(config), STEPS)
    table(rows, CONSOLE)
    by_first("drawing", lambda: plot(config.workdir / "combined.png", rows))
    path = report.write_report(config.workdir, "combined", config, rows)
    CONSOLE.print(f"report: {path}")
    return rows


def _told(facts: Mapping[str, Any]) -> str:
    figures = [f"{facts[step]['accuracy']:.2%} {step}" for step in STEPS]
    last = facts[STEPS[-1]]
    return f"{', '.join(figures)}, {last['bytes']:,} bytes, {last['flops'] / 1e6:.1f} MFLOPs"


def split_of(making: Making, way: Way, target: Target, stages: Stages) -> Parts:
    """Return the parts of a way whose network answers most like the whole one.

    Args:
        making: with seed 0.
        way: the methods.
        target: the first budget of its kind; the others go the same parts.
        stages: does each once.
    """
    splits = SPLITS[len(steps_of(way))]
    if len(splits) == 1:
        return splits[0]

    def work() -> dict[str, Json]:
        distances = []
        for parts in splits:
            network = network_at(making, way, target, parts, fits=False)
            distances.append(making.distance(network))
        return {"parts": [list(parts) for parts in splits], "distances": distances}

    facts = stages.run(f"split-{way}-{target.name}", work)
    best = min(range(len(splits)), key=lambda number: facts["distances"][number])
    return splits[best]


def measured_whole(making: Making) -> dict[str, Json]:
    """Measure the whole network as int8, and what it takes in float32."""
    facts = measured(making, making.whole, making.config.workdir / "whole")
    return {STEPS[0]: facts, "float32_bytes": num_bytes(making.whole, None)}


def point(making: Making, way: Way, target: Target, parts: Parts, folder: Path) -> dict[str, Json]:
    """Compress, measure, teach, and measure again."""
    network = network_at(making, way, target, parts)
    first = measured(making, network, folder)
    rate, taught = best_taught(making, network, "sparse" in steps_of(way))
    by_first("removing an artifact", lambda: shutil.rmtree(folder))
    last = {**measured(making, taught, folder), "rate": rate}
    return {"parts": list(parts), STEPS[0]: first, STEPS[1]: last}


def best_taught(making: Making, network: Network, keeps_zeros: bool) -> tuple[float, Network]:
    """Teach at every rate, and return what then answers most like the whole network.

    Args:
        making: of the whole network.
        network: as it is right after.
        keeps_zeros: train no weight that is zero.

    Returns:
        The rate, 0 where the network is best as it is, and the network.
    """
    train_apply, variables = network.train_apply, network.variables
    if keeps_zeros:
        train_apply = held(train_apply, variables)
    taught_at = {0.0: network}
    for rate in dict.fromkeys((making.config.recovery.rate, *making.config.rates)):
        taught = network._replace(variables=making.tuner(train_apply, variables, rate))
        taught_at[rate] = making.renewed(taught)
    best = min(taught_at, key=lambda rate: making.distance(taught_at[rate]))
    return best, taught_at[best]


def held(train_apply: Function, variables: PyTree) -> Function:
    """Return the function that trains no weight that is zero now."""
    # On the host: a program of several processes takes no array of one of them.
    masks = jax.device_get(sparse.nonzero_masks(variables))

    def masked(variables: PyTree, images: Batch, *rest: Any) -> Any:
        return train_apply(sparse.masked(variables, masks), images, *rest)

    return masked


def measured(making: Making, network: Network, folder: Path) -> dict[str, Json]:
    """Save a network as int8, load it again, and measure what was loaded."""
    variables = parallel.on_one_device(network.variables)
    jc.save(folder, network.compression, variables, network=network.source, encoding=INT8)
    apply, loaded = jc.load(folder)
    graph = jc.trace(apply, loaded, data.image_shape(making.dataset))
    accuracy, tested = accuracy_of(apply, loaded, making.dataset, parallel.mesh())
    return {
        "accuracy": accuracy,
        "count": tested,
        "num_params": graph.params,
        "num_nonzero": count_nonzero(loaded),
        "flops": graph.flops,
        "bytes": artifact.num_bytes(folder),
    }
