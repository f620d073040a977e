"""Cut each thing by each score, and judge what is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatch
from itertools import product

import jax.numpy as jnp
import numpy as np

import jaxcompress as jc
from benchmarks.transformer_scores.scores import all_scores, of_branches
from benchmarks.transformer_scores.settings import Config
from benchmarks.transformer_scores.tasks import Task, digits_task, minilm_task
from experiments.common.environment import describe, prepare
from jaxcompress.annotations import Array, Json
from jaxcompress.files import write_json
from jaxcompress.prune.importance import without_least
from jaxcompress.prune.scores import Scores

__all__ = ["main"]

WIDTHS = {"perceptrons": "*/mlp_expand/kernel[[]1]", "heads": "*/attention/key/kernel[[]1]"}
DEPTH = ("block_influence", "fisher", "magnitude")


def columns(graph: jc.Graph) -> dict[str, tuple[str, ...]]:
    """Return the groups that each column cuts."""
    named = {
        column: tuple(name for name in graph.groups if fnmatch(name, pattern))
        for column, pattern in WIDTHS.items()
    }
    named["residual width"] = graph.streams
    return {**named, "all": tuple(name for groups in named.values() for name in groups)}


def widths(task: Task, scores: Mapping[str, Scores], config: Config) -> Iterator[dict[str, Json]]:
    """Cut widths to shares of the FLOPs, by every score of all their groups."""
    for column, groups in columns(task.graph).items():
        for name, score in scores.items():
            if any(group not in score for group in groups) or name == "block_influence":
                continue
            if name == "magnitude, norm_scales" and column != "all":
                continue
            part = replace(score, arrays={group: score[group] for group in groups})
            forms = _forms(name, part) if column != "residual width" else {name: part}
            for (form, scored), share in product(forms.items(), config.shares):
                uniform = form.endswith("uniform")
                keep = jc.select(task.graph, scored, jc.Budget(flops=share), uniform=uniform)
                yield {"column": column, "score": form, "share": share, **_judged(task, keep)}


def _forms(name: str, score: Scores) -> dict[str, Scores]:
    """Compare groups of activations by their means, as they are, or not: the same share of each."""
    if name != "activation_norms":
        return {name: score}
    bare = replace(score, unit="comparable")
    return {name: score, f"{name}, as they are": bare, f"{name}, uniform": score}


def depth(
    task: Task, scores: Mapping[str, Scores], counts: tuple[int, ...], column: str
) -> Iterator[dict[str, Json]]:
    """Remove the branches, or layers, of the least worth, by the scores that compare them."""
    for name, score in scores.items():
        if not name.startswith(("random", *(DEPTH if column == "layers" else DEPTH[:2]))):
            continue
        places = {group: score[group] for group in scores["block_influence"]}
        worth = places if column == "layers" else of_branches(name, places)
        for count in counts:
            keep = without_least(task.graph, worth, count)
            yield {"column": column, "score": name, "count": count, **_judged(task, keep)}


def _judged(task: Task, keep: Mapping[str, Array]) -> dict[str, Json]:
    """Judge what a keep leaves; gates of all groups, so that one program serves all."""
    gates = {
        name: jnp.asarray(keep.get(name, np.ones(group.width)), jnp.float32)
        for name, group in task.graph.groups.items()
    }
    cost = task.graph.cost
    flops = float(cost.flops(cost.widths(keep))) / task.graph.flops
    return {"flops": flops, "value": task.judge(gates)}


def _rows(config: Config) -> Iterator[dict[str, Json]]:
    for make in (lambda: digits_task(config), lambda: minilm_task(config, scan=False)):
        task = make()
        yield {"network": task.network, "column": "whole", **_judged(task, {})}
        scores = all_scores(task, config, columns(task.graph)["all"])
        for row in widths(task, scores, config):
            yield {"network": task.network, **row}
        for row in depth(task, scores, config.branches, "branches"):
            yield {"network": task.network, **row}
    task = minilm_task(config, scan=True)
    layers = tuple(name for name, group in task.graph.groups.items() if group.is_depth)
    for row in depth(task, all_scores(task, config, layers), config.layers, "layers"):
        yield {"network": "MiniLM-L6", **row}


def main(config: Config) -> None:
    """Measure all, print a line each, write the file."""
    prepare()
    rows = []
    for row in _rows(config):
        rows.append(row)
        print(row, flush=True)
    write_json(config.output, {"environment": describe(), "rows": rows})
