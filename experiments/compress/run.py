"""The stages: the whole network, what each of them leaves of it, and what is reported."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
from rich.console import Console

import jaxcompress as jc
from experiments.common import environment, report
from experiments.common.holding import agree_on_settings
from experiments.common.stages import Stages
from experiments.compress.budget import parsed, part_of_the_way, structural
from experiments.compress.checks import check
from experiments.compress.integers import quantized
from experiments.compress.making import Made, Making, digest, identity_of
from experiments.compress.opening import opened
from experiments.compress.removal import removed, zeroed
from experiments.compress.results import exports, final_artifact, fulfilled, row_of
from experiments.compress.settings import STRUCTURAL, Config
from experiments.compress.split import candidates, least
from experiments.compress.teaching import store_answers, taught, trained
from experiments.compress.telling import finish
from experiments.compress.timed import with_times
from jaxcompress import models
from jaxcompress.annotations import Json
from jaxcompress.processes import agree

__all__ = ["main"]

# Where the output goes to a file, a terminal's default width would cut the table.
CONSOLE = Console(width=None if sys.stdout.isatty() else 110)


def main(config: Config) -> list[report.Row]:
    """Run all stages that are not done, and return the rows of the report."""
    environment.prepare(several=True)
    check(config)
    agree_on_settings(config)
    task = opened(config, CONSOLE)
    with Stages(config.workdir, {"compress": 1}, CONSOLE) as stages:
        return run_all(Making(config, task, stages, CONSOLE))


def run_all(making: Making) -> list[report.Row]:
    """Compress stage by stage, measure what each leaves, and write the report."""
    config, shares = making.config, parsed(making.config.budget)
    making, whole = whole_network(making)
    making = with_times(making, whole.key)
    asked = structural(shares, "sparse" in config.stages)
    ways, tried = split_of(making, asked, whole.key)
    made, networks, seconds = whole, [(whole, whole.facts["seconds"])], 0.0
    for stage in config.stages:
        if stage in STRUCTURAL and stage not in ways:
            CONSOLE.print(f"[bold]{stage}[/bold]: nothing is left for it to do")
            continue
        made = done(making, stage, made, whole, ways.get(stage))
        seconds += made.facts["seconds"]
        networks.append((made, seconds))
    rows = [row_of(making, *network) for network in networks]
    most = shares["bytes"] * whole.facts["bytes"] if "bytes" in shares else None
    last, encoding, sizes = final_artifact(making, made, most)
    if encoding != "as it is":
        rows.append(row_of(making, last, seconds))
    size = last.facts["bytes"]
    met = {kind: fulfilled(kind, share, rows[0], rows[-1], size) for kind, share in shares.items()}
    notes = {
        "split": tried,
        "encoding": encoding,
        "encodings": sizes,
        "exports": exports(making, last),
        "notes": [*making.task.data.notes, *lesson_notes(made)],
    }
    finish(making, rows, met, notes)
    return rows


def lesson_notes(made: Made) -> list[str]:
    """Say so where the lesson was not kept."""
    if made.facts.get("kept", True):
        return []
    before, after = made.facts["loss_before"], made.facts["loss_after"]
    return [
        f"the lesson was not kept: on {made.facts['held']} training examples that it did not show "
        f"its loss was {before:.3g} before and {after:.3g} after; show more examples, or lower "
        "--rate"
    ]


def whole_network(making: Making) -> tuple[Making, Made]:
    """Return the whole network, trained first where it has no weights yet."""
    config, model, key = making.config, making.task.model, digest(identity_of(making.task))
    agree("the network and the data", {"digest": key})
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(model.variables)):
        settings = config.teacher_epochs, config.optimizer, config.rate, config.batch_size
        key = digest(key, *settings, config.seed)
        made = making.run("whole", "train", key, lambda: trained(making, initial(making), key))
        model = model._replace(variables=made.model.variables)
        return dataclasses.replace(making, task=making.task._replace(model=model)), made
    plain = model._replace(compression=jc.chain())
    return making, making.run("whole", "whole", digest(key, config.seed), lambda: (plain, {}))


def initial(making: Making) -> Any:
    """Draw the variables of a shipped network."""
    model = making.task.model
    assert model.network is not None
    name, network_config = model.network
    module = models.build(name, **network_config)
    return model._replace(variables=models.initialize(module, making.key(0), making.task.one()))


def split_of(
    making: Making, asked: Mapping[str, float], key: str
) -> tuple[dict[str, float], list[dict[str, Json]]]:
    """Return how far the stages that remove go on the way to the budget, and what was tried.

    The one that comes first goes a part of the way, the other the rest; who has nothing to do is
    left out.
    """
    order = [stage for stage in making.config.stages if stage in STRUCTURAL]
    if not order or not asked:
        return {}, []
    if len(order) == 1:
        return {order[0]: 1.0}, []
    tried = candidates(making, (order[0], order[1]), asked, key)
    part = least(tried)
    ways = {order[0]: part, order[1]: 1.0}
    left_out = {0.0: order[0], 1.0: order[1]}.get(part)
    return {stage: way for stage, way in ways.items() if stage != left_out}, tried


def done(making: Making, stage: str, made: Made, whole: Made, way: float | None) -> Made:
    """Do one stage to what the one before has left.

    Args:
        making: what stages share.
        stage: its name.
        made: what the one before has left.
        whole: the whole network.
        way: how far on the way to the budget it goes, in logarithms of cost.
    """
    config, scoring = making.config, making.config.scoring
    looks = scoring.looked_at, list(config.protect)
    if stage in STRUCTURAL:
        assert way is not None
        asked = structural(parsed(config.budget), "sparse" in config.stages)
        budget = part_of_the_way(asked, way, making.graph)
        known = making.times, list(config.protect)
        key = digest(made.key, stage, budget.ceilings(), dataclasses.asdict(scoring), *known)
        work = partial(removed, making, stage, made, budget)
        return making.run(f"after {stage}", stage, key, work)
    if stage == "sparse":
        most = None
        if not config.sparsity:
            most = parsed(config.budget)["bytes"] * whole.facts["bytes"]
        key = digest(made.key, stage, config.sparsity, most, *looks)
        work = partial(zeroed, making, made, most)
        return making.run("after sparse", stage, key, work)
    if stage == "quantize":
        key = digest(made.key, stage, config.bits, config.activations, *looks)
        make = partial(quantized, making.task, made.model, making.looked, config)
        return making.run("in integers", stage, key, lambda: (make(), {"bits": config.bits}))
    answers = store_answers(making, whole.key)
    is_sparse = "sparse" in config.stages[: config.stages.index("distil")]
    settings = config.epochs, config.optimizer, config.rate, config.batch_size
    key = digest(made.key, stage, *settings, is_sparse)
    work = partial(taught, making, made.model, answers, is_sparse, key)
    return making.run("taught", stage, key, work)
