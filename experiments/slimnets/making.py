"""Rows of SlimNets: each made once, kept, and read again only where it is still what was asked."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
from jax.sharding import Mesh

import jaxcompress as jc
from experiments.common import data, environment
from experiments.common.measure import accuracy_of, count_nonzero
from experiments.common.network import Network
from experiments.common.stage_files import differences, path_digest, read_object
from experiments.common.timing import Stopwatch
from experiments.slimnets.network import compressed, start
from experiments.slimnets.presets import Preset, settings_of
from experiments.slimnets.rows import Recipe, needed
from experiments.slimnets.table import CONSOLE
from experiments.slimnets.training import trained
from jaxcompress.annotations import Json
from jaxcompress.artifact import Encoding, num_bytes
from jaxcompress.files import locked, write_json
from jaxcompress.knowledge.fingerprints import fingerprint_json
from jaxcompress.processes import by_first

__all__ = ["Series", "finished", "finished_or_made", "make", "network_of", "weights_of"]

WAIT_SECONDS = 7 * 24 * 3600.0
"""How long others wait for the first, while it waits for a row that another run makes."""


class Series(NamedTuple):
    """The rows of one seed.

    Attributes:
        preset: the scale.
        recipes: of all rows, by name.
        dataset: at that scale.
        mesh: the devices.
        folder: where the rows lie.
        seed: of everything random.
        weights: folder of published weights.
    """

    preset: Preset
    recipes: Mapping[str, Recipe]
    dataset: data.Dataset
    mesh: Mesh
    folder: Path
    seed: int
    weights: Path | None = None


def finished_or_made(name: str, series: Series) -> dict[str, Json]:
    """Return a row; while another run makes it, wait for that."""
    # Not the row's own folder: that is an artifact's, which has its own ways.
    folder = series.folder / "locks" / name
    with contextlib.ExitStack() as stack:
        by_first(f"waiting for {name}", lambda: _lock(stack, folder), seconds=WAIT_SECONDS)
        return finished(name, series) or make(name, series)


def _lock(stack: contextlib.ExitStack, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(locked(folder, wait=True))


def finished(name: str, series: Series) -> dict[str, Json] | None:
    """Return what an earlier run measured of a row, if it finished.

    Raises:
        RuntimeError: in all processes but the first, if that raises.
        ValueError: if the row's file is damaged, or it was made by other code or of other inputs.
    """
    return by_first(f"row {name}", lambda: _finished(name, series))  # type: ignore[no-any-return]


def _finished(name: str, series: Series) -> dict[str, Json] | None:
    file = series.folder / name / "row.json"
    if not file.exists():
        return None
    remedy = f"delete {file.parent} to make the row again, or choose another workdir"
    row = read_object(file, remedy)
    inputs = row.get("inputs")
    offences = ["it names no inputs"]
    if isinstance(inputs, dict):
        offences = differences(inputs, inputs_of(name, series))
    offences += [f"it lacks {field}" for field in FIELDS if field not in row]
    if offences:
        raise ValueError(
            "rows of one folder are made by one code of the same inputs, but of "
            f"{file} {'; '.join(offences)}; {remedy}"
        )
    return row


FIELDS = ("seed", "accuracy", "num_params", "num_nonzero", "flops", "bytes", "cpu_seconds")


def inputs_of(name: str, series: Series) -> dict[str, Json]:
    """Return everything that decides a row but its seed, as JSON has it; files by their digests."""
    recipe = series.recipes[name]
    file = weights_of(recipe, series.weights)
    inputs = {
        "code": environment.code_digest(),
        "data": data.identity(series.dataset),
        "preset": settings_of(series.preset),
        "recipe": recipe._asdict(),
        "rows": {other: path_digest(series.folder / other) for other in needed(recipe)},
        "weights": None if file is None else path_digest(file),
    }
    return dict(json.loads(json.dumps(inputs, default=str)))


def weights_of(recipe: Recipe, folder: Path | None) -> Path | None:
    """Return the file of published weights that a row is, in their folder."""
    if folder is None or not recipe.published:
        return None
    return folder / f"{recipe.network}_cifar10.safetensors"


def make(name: str, series: Series) -> dict[str, Json]:
    """Make one row: start, compress, train, prune, save, load, measure."""
    recipe = series.recipes[name]
    CONSOLE.print(f"[bold]{name}[/bold], seed {series.seed}")
    # Before the work: what changes while it runs is not what it was made of.
    inputs = by_first(f"row {name}", lambda: inputs_of(name, series))
    # Of the name, so that a row's randomness does not depend on which others there are.
    key = jax.random.fold_in(jax.random.key(series.seed), zlib.crc32(name.encode()))
    # Not the wall clock: rows run side by side, and other work beside them.
    watch = Stopwatch(time.process_time)
    state = series.folder / f"{name}-state-{fingerprint_json(inputs)[:10]}"
    made = network_of(recipe, series, key, state)
    seconds = watch.seconds
    row: dict[str, Json] = {
        "name": name,
        "seed": series.seed,
        **saved(recipe, made, series.folder / name, series.dataset, series.mesh),
        "cpu_seconds": seconds,
        "environment": environment.describe(),
        "inputs": inputs,
    }
    row = by_first(f"row {name}", lambda: _keep(row, series.folder / name, state))
    CONSOLE.print(
        f"    {row['accuracy']:.2%}, {row['num_nonzero']:,} non-zero, {row['bytes']:,} B, "
        f"{row['cpu_seconds']:.0f} CPU s"
    )
    return row


def _keep(row: dict[str, Json], folder: Path, state: Path) -> dict[str, Json]:
    """Write a row, and remove what was kept to go on making it."""
    plain: dict[str, Json] = json.loads(json.dumps(row, default=float))
    write_json(folder / "row.json", plain)
    shutil.rmtree(state, ignore_errors=True)
    return plain


def network_of(recipe: Recipe, series: Series, key: jax.Array, state: Path) -> Network:
    """Start, compress and train the network of one row; its state is kept in a folder."""
    preset, dataset = series.preset, series.dataset
    begin = functools.partial(
        start,
        preset=preset,
        dataset=dataset,
        folder=series.folder,
        weights=series.weights,
        key=key,
    )
    made = compressed(recipe, begin(recipe), preset, dataset, key)
    if not recipe.trains:
        return made
    teacher = None
    if recipe.teacher is not None:
        # The row that teaches, as it was left.
        left = series.recipes[recipe.teacher]
        teacher = begin(left._replace(start=recipe.teacher, folds=False, published=False))
    return trained(recipe, made, teacher, preset, dataset, key, series.mesh, state)


def saved(
    recipe: Recipe, made: Network, folder: Path, dataset: data.Dataset, mesh: Mesh
) -> dict[str, Json]:
    """Save a network, load it again, and measure what was loaded."""
    encoding = Encoding(recipe.values)
    jc.save(folder, made.compression, made.variables, network=made.source, encoding=encoding)
    apply, variables = jc.load(folder)
    graph = jc.trace(apply, variables, data.image_shape(dataset))
    accuracy, _ = accuracy_of(apply, variables, dataset, mesh)
    return {
        "accuracy": accuracy,
        "num_params": graph.params,
        "num_nonzero": count_nonzero(variables),
        "flops": graph.flops,
        "bytes": num_bytes(folder),
    }
