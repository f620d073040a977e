"""The rows of SlimNets, made where they are missing, averaged over seeds and reported."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from experiments.common import data, environment, report
from experiments.common.holding import agree_on_data, shared
from experiments.slimnets import table
from experiments.slimnets.making import Series, finished, finished_or_made, weights_of
from experiments.slimnets.network import dense_params
from experiments.slimnets.presets import PRESETS, Preset, recipes_of, settings_of
from experiments.slimnets.rows import with_starts
from experiments.slimnets.settings import Config
from jaxcompress import parallel

__all__ = ["load", "main"]


def main(config: Config) -> list[report.Row]:
    """Make every row that is not finished, and return the rows of the report."""
    environment.prepare(several=True)
    shared(config.workdir, config)
    preset = PRESETS[config.preset]
    recipes = recipes_of(preset)
    names = with_starts(config.rows or tuple(recipes), recipes)
    dataset, mesh = load(preset, config.data_dir), parallel.mesh()
    weights = (weights_of(recipes[name], config.weights_dir) for name in names)
    agree_on_data(dataset, *sorted({file for file in weights if file}))
    by_name: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in config.seeds:
        folder = config.workdir / config.preset / f"seed{seed}"
        series = Series(preset, recipes, dataset, mesh, folder, seed, config.weights_dir)
        for name in names:
            row = (finished if config.only_finished else finished_or_made)(name, series)
            by_name[name] += [] if row is None else [row]
    rows = table.averaged(by_name, recipes, dense_params(preset, dataset))
    scale = {"train_images": len(dataset.train_labels), "test_images": len(dataset.test_labels)}
    settings = {**dataclasses.asdict(config), **scale, "scale": settings_of(preset)}
    path = report.write_report(config.workdir / config.preset, "slimnets", settings, rows)
    table.show(rows, path.with_suffix(".md"))
    table.CONSOLE.print(f"report: {path}")
    return rows


def load(preset: Preset, data_dir: Path | None) -> data.Dataset:
    """Load the preset's data, its first training images only; digits are enlarged to 32x32."""
    dataset = data.first(data.load(preset.dataset, data_dir), preset.train_images)
    if preset.statistics is not None:
        mean, std = preset.statistics
        dataset = dataclasses.replace(dataset, mean=mean, std=std)
    if preset.dataset != "digits":
        return dataset
    images = (dataset.train_images, dataset.test_images)
    train, test = (part.repeat(4, axis=1).repeat(4, axis=2) for part in images)
    return dataclasses.replace(dataset, train_images=train, test_images=test)
