"""The network that a row of SlimNets trains: where it starts, what is removed before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxcompress as jc
from experiments.common import data
from experiments.common.choices import of_first
from experiments.common.measure import augmented
from experiments.common.network import Network, published_variables, untrained
from experiments.common.score import score, source_of
from experiments.slimnets.presets import Preset
from experiments.slimnets.rows import Recipe
from jaxcompress import models
from jaxcompress.annotations import Array, Batch, Json, PyTree
from jaxcompress.knowledge.drawing import Views
from jaxcompress.knowledge.losses import cross_entropy
from jaxcompress.prune.importance.meta_gradients import meta

__all__ = ["compressed", "dense_params", "folded", "start", "views_of"]


def start(
    recipe: Recipe,
    preset: Preset,
    dataset: data.Dataset,
    folder: Path,
    weights: Path | None,
    key: jax.Array,
) -> Network:
    """Build the row's network: fresh, or as the row that it starts from left it.

    Args:
        recipe: of the row.
        preset: the scale.
        dataset: its data.
        folder: of the rows.
        weights: folder of published weights.
        key: of fresh variables.
    """
    config = config_of(recipe.network, preset, dataset.num_classes)
    network, shape = untrained(recipe.network, config), data.image_shape(dataset).shape
    module = models.build(recipe.network, **config)
    if recipe.published:
        return network._replace(variables=published(recipe.network, module, shape, weights))
    if recipe.start is None:
        return network._replace(variables=models.initialize(module, key, shape))
    apply, variables = jc.load(folder / recipe.start)
    if recipe.folds:
        return network._replace(variables=folded(variables))
    change = jc.from_spec(jc.artifact.inspect(folder / recipe.start)["spec"])
    train_apply = change.function(network.train_apply)
    return Network(network.source, apply, train_apply, variables, change)


def published(name: str, module: Any, shape: tuple[int, ...], weights: Path | None) -> Any:
    """Load `<name>_cifar10.safetensors` from the folder of published weights."""
    if weights is None:
        raise ValueError(
            f"rows from published weights read {name}_cifar10.safetensors, but there is no "
            "folder of weights; pass --weights-dir"
        )
    return published_variables(module, shape, weights / f"{name}_cifar10.safetensors")


def config_of(name: str, preset: Preset, num_classes: int) -> dict[str, Json]:
    """Return the configuration of a network at the preset's scale."""
    return {**preset.configs.get(name, {}), "num_classes": num_classes}


def folded(variables: Mapping[str, Array]) -> dict[str, Json]:
    """Fold each batch norm `<stage>_bn<i>` into the convolution `<stage>_conv<i>` before it.

    kernel' = kernel * s and bias' = (bias - mean) * s + shift, s = scale / sqrt(variance + 1e-5):
    the same function in evaluation mode, without batch norm.
    """
    params, statistics = variables["params"], variables["batch_stats"]
    layers: dict[str, Array] = {}
    for name, layer in params.items():
        if "_bn" in name:
            continue
        norm = name.replace("_conv", "_bn")
        if norm in statistics:
            learned, seen = params[norm], statistics[norm]
            scale = learned["scale"] / jnp.sqrt(seen["var"] + 1e-5)
            bias = (layer["bias"] - seen["mean"]) * scale + learned["bias"]
            layer = {"kernel": layer["kernel"] * scale, "bias": bias}
        layers[name] = dict(layer)
    return {"params": layers}


def compressed(
    recipe: Recipe, network: Network, preset: Preset, dataset: data.Dataset, key: jax.Array
) -> Network:
    """Remove channels by meta-learned gates, or decompose convolutions, as the recipe says."""
    if recipe.flops is None and not recipe.ranks:
        return network
    graph = jc.trace(network.apply, network.variables, data.image_shape(dataset))
    if recipe.flops is None:
        width = network.source[1].get("width", 64) / 64
        return network.compressed(factorization(graph, recipe.ranks, width))
    budget, views = jc.Budget(flops=recipe.flops), views_of(preset)
    if preset.published:
        scores = learned_scores(graph, network, dataset, views, budget, key)
    else:
        scores = gate_scores(graph, network, dataset, views, preset.episodes, key)
    keep = of_first(jc.select(graph, scores, budget))
    return network.compressed(jc.shrink(graph, keep))


def gate_scores(
    graph: jc.Graph,
    network: Network,
    dataset: data.Dataset,
    views: Views,
    episodes: int,
    key: jax.Array,
) -> dict[str, Json]:
    """Score channels by the query loss through two inner steps, over a few episodes, per cost."""
    steps, size = 2, 32
    count = episodes * (steps + 1) * size
    batches = augmented(dataset, key, count=count, batch_size=size, settings=views)
    grouped = jax.tree.map(lambda x: x.reshape(episodes, steps + 1, *x.shape[1:]), batches)
    support = jax.tree.map(lambda x: x[:, :steps], grouped)
    query = jax.tree.map(lambda x: x[:, steps], grouped)

    def loss(variables: PyTree, batch: Batch) -> jax.Array:
        return cross_entropy(network.apply(variables, batch["image"]), batch["label"]).mean()

    return dict(jc.prune.per_cost(graph, meta(graph, loss, network.variables, support, query)))


def learned_scores(
    graph: jc.Graph,
    network: Network,
    dataset: data.Dataset,
    views: Views,
    budget: jc.Budget,
    key: jax.Array,
) -> dict[str, Json]:
    """Score channels by gates that learn to keep a trained network's own answers."""
    groups, functions = jc.graph.internal_groups(graph), (network.apply, network.train_apply)
    source = source_of(graph, groups, functions, network.variables, dataset, views)
    return score("learned", source, budget, key)


def factorization(graph: jc.Graph, ranks: Sequence[int], width: float) -> jc.Compression:
    """Decompose the convolutions, in order, to these ranks times the relative width."""
    paths = [path for path in graph.sites if len(graph.leaves[path].shape) == 4]
    wanted = {p: max(1, round(r * width)) for p, r in zip(paths, ranks, strict=True)}
    return jc.factorize(graph, wanted, {path: "spatial" for path in paths})


def views_of(preset: Preset) -> Views:
    """Return the augmentation: digits must not be mirrored."""
    return Views(pad=4, flip=preset.dataset != "digits")


def dense_params(preset: Preset, dataset: data.Dataset) -> int:
    """Count the parameters of the scale's VGG-19, to which all ratios are: 20,554,826 at full."""
    module = models.build("vgg19", **config_of("vgg19", preset, dataset.num_classes))
    shape = data.image_shape(dataset).shape
    shapes = jax.eval_shape(lambda: models.initialize(module, jax.random.key(0), shape))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
