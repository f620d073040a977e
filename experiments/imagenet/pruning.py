"""Which channels go, and what is left makes up for: gates, compensation, BatchNorm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from rich.console import Console

import jaxcompress as jc
from experiments.common.gates import importance_of
from experiments.common.network import Network
from experiments.imagenet.network import abstract_pixels
from experiments.imagenet.reading import Data
from experiments.imagenet.settings import Config
from jaxcompress import artifact, recipes
from jaxcompress.annotations import Batch, Json, PyTree
from jaxcompress.knowledge import cross_entropy

__all__ = ["choose", "chosen", "graph_of", "renewed", "shrink"]

SIZE = 32
"""Images that kernels are compensated on at once."""
MOST = 16_384
"""Images that a recipe holds at most, 2.5 GB of pixels at 224."""
STATISTICS_SIZE = 128
"""Images of each batch that BatchNorm is re-estimated on, at most."""


def graph_of(config: Config, network: Network) -> jc.Graph:
    """Return the graph of a network on one image."""
    return jc.trace(network.apply, network.variables, abstract_pixels(config))


def choose(
    data: Data, teacher: Network, key: jax.Array, folder: Path, console: Console
) -> dict[str, Json]:
    """Learn which channels the network misses least; save what is left without them.

    Args:
        data: whose training images are looked at.
        teacher: the whole network.
        key: of everything random.
        folder: where the result is saved.
        console: where progress is shown.
    """
    config, graph = data.config, graph_of(data.config, teacher)
    scoring = config.scoring
    count = scoring.rounds * scoring.masked_images + scoring.steps * scoring.examples
    looked = data.looked_at(min(count, MOST), max(scoring.examples, SIZE))
    fisher = recipes.Fisher(scoring.rounds, scoring.masked_images)
    compression = recipes.prune(
        teacher.apply,
        teacher.variables,
        looked,
        jc.Budget(flops=config.flops),
        key=key,
        loss=_loss(teacher),
        train_apply=teacher.train_apply,
        importance=importance_of(fisher, scoring.steps, scoring.examples, console),
        protect=config.protect,
        multiple_of=config.multiple_of,
        graph=graph,
    )
    small = compression.variables(teacher.variables)
    jc.save(folder, compression, small)
    left = graph_of(config, teacher.after(compression, small))
    return {"flops": left.flops / graph.flops, "params": left.params / graph.params}


def chosen(folder: Path) -> jc.Compression:
    """Read which channels go."""
    return jc.from_spec(artifact.inspect(folder)["spec"])


def shrink(
    data: Data, teacher: Network, compression: jc.Compression, key: jax.Array, folder: Path
) -> dict[str, Json]:
    """Remove the channels, compensate kernels and re-estimate BatchNorm; save what is left.

    Args:
        data: whose training images are looked at.
        teacher: the whole network.
        compression: which channels go.
        key: of everything random.
        folder: where the result is saved.
    """
    scoring = data.config.scoring
    whole = recipes.compensate(
        teacher.apply,
        teacher.variables,
        data.looked_at(scoring.compensated_images, SIZE),
        compression,
        examples=scoring.compensated_images,
        size=min(SIZE, len(data.train)),
        graph=graph_of(data.config, teacher),
    )
    small = teacher.after(compression, compression.variables(whole))
    variables, count = renewed(data, teacher, small, key)
    jc.save(folder, compression, variables)
    return {"statistics_images": count}


def renewed(data: Data, teacher: Network, network: Network, key: jax.Array) -> tuple[Any, int]:
    """Return variables with BatchNorm re-estimated as far as that helps, and on how many images.

    Args:
        data: whose training images are looked at.
        teacher: the whole network, whose answers tell what helps.
        network: with its variables.
        key: of dropout.
    """
    count = min(data.config.scoring.statistics_images, len(data.train))
    # Batches of one size, of which few images are left over.
    size = count // -(-count // STATISTICS_SIZE)
    variables = recipes.renew(
        network.apply,
        network.variables,
        data.looked_at(count, size),
        (teacher.apply, teacher.variables),
        train_apply=network.train_apply,
        key=key,
        examples=count,
        size=size,
    )
    return variables, count // size * size


def _loss(network: Network) -> Any:
    def loss(variables: PyTree, batch: Batch) -> jax.Array:
        logits, _ = network.train_apply(variables, batch["image"], jax.random.key(0))
        return cross_entropy(logits, batch["label"]).mean()

    return loss
