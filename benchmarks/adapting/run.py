"""Every way with every seed, after every length of recovery."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import jax

import jaxcompress as jc
from benchmarks import front_doors
from benchmarks.adapting.recovery import Lessons, Recovery
from benchmarks.adapting.settings import Config, Way
from benchmarks.adapting.ways import WAYS
from benchmarks.importance.task import Task, load_task
from experiments.common.environment import prepare
from experiments.common.timing import Stopwatch

__all__ = ["main"]


def main(config: Config) -> None:
    """Measure what is missing in the file, all ways with one seed before the next."""
    prepare()
    rows = json.loads(config.output.read_text())["rows"] if config.output.exists() else []
    task = load_task(Path(os.environ["JAXCOMPRESS_SHARED"]), config.network, "internal")
    lessons = Lessons(task, config.epoch_images)
    for seed in config.seeds:
        for way in config.ways:
            if any((row["way"], row["seed"]) == (way, seed) for row in rows):
                continue
            rows += _rows(config, task, lessons, way, seed)
            front_doors.write(config, rows)


def _rows(
    config: Config, task: Task, lessons: Lessons, way: Way, seed: int
) -> list[dict[str, Any]]:
    """Choose channels once and recover for each number of epochs; 0 is right after."""
    budget, key = jc.Budget(flops=config.flops), jax.random.fold_in(jax.random.key(2024), seed)
    watch = Stopwatch(time.process_time)
    chosen = WAYS[way](task, budget, key)
    scoring = watch.seconds
    recovery, rows = Recovery(task, chosen, lessons), []
    for epochs in (0, *config.epochs):
        steps = epochs * lessons.per_epoch
        if epochs and way == "fisher":
            steps += config.extra_steps
        watch = Stopwatch(time.process_time)
        accuracies = recovery.accuracies(recovery.after(steps, seed))
        row = {"way": way, "seed": seed, "epochs": epochs, "steps": steps, **accuracies}
        row |= {"scoring_seconds": round(scoring, 1), "seconds": round(watch.seconds, 1)}
        print(row, flush=True)
        rows.append(row)
    return rows
