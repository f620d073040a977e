"""The network that a row of SlimNets trains: where it starts, what is removed before training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

import jaxcompress as jc
from experiments import data
from experiments.measure import augmented
from experiments.score import score, source_of
from experiments.slimnets_presets import Preset
from experiments.slimnets_rows import Recipe
from jaxcompress import models
from jaxcompress.artifact import akamaster_resnet_name, load_torch_weights
from jaxcompress.knowledge.drawing import Views
from jaxcompress.knowledge.losses import cross_entropy
from jaxcompress.prune.importance.meta_gradients import meta

__all__ = ["Made", "Task", "compressed", "dense_params", "folded", "start", "views_of"]


class Task(NamedTuple):
    """What the rows of one seed share."""

    preset: Preset
    recipes: Mapping[str, Recipe]
    dataset: data.Dataset
    mesh: Mesh
    folder: Path
    seed: int
    weights: Path | None = None

    @property
    def image_shape(self) -> tuple[int, ...]:
        """A batch of one image."""
        return (1, *self.dataset.train_images.shape[1:])


class Made(NamedTuple):
    """A network: its functions, its variables, and how it came from the one called `network`."""

    network: tuple[str, Mapping[str, Any]]
    apply: Callable[..., Any]
    train_apply: Callable[..., Any]
    variables: Any
    compression: jc.Compression


def start(recipe: Recipe, task: Task, key: jax.Array) -> Made:
    """Build the row's network: fresh, or as the row that it starts from left it."""
    network = (recipe.network, config_of(recipe.network, task))
    module = models.build(recipe.network, **network[1])
    made = Made(
        network,
        models.evaluation_function(module),
        models.training_function(module),
        None,
        jc.chain(),
    )
    if recipe.published:
        return made._replace(variables=published(recipe.network, module, task))
    if recipe.start is None:
        return made._replace(variables=models.initialize(module, key, task.image_shape))
    folder = task.folder / recipe.start
    apply, variables = jc.load(folder)
    if recipe.folds:
        return made._replace(variables=folded(variables))
    change = jc.from_spec(jc.artifact.inspect(folder)["spec"])
    return Made(network, apply, change.function(made.train_apply), variables, change)


def published(network: str, module: Any, task: Task) -> Any:
    """Load `<network>_cifar10.safetensors` from the folder of published weights."""
    if task.weights is None:
        raise ValueError(
            f"rows from published weights read {network}_cifar10.safetensors, but there is no "
            "folder of weights; pass --weights-dir"
        )
    shapes = jax.eval_shape(
        lambda key: models.initialize(module, key, task.image_shape), jax.random.key(0)
    )
    file = task.weights / f"{network}_cifar10.safetensors"
    return load_torch_weights(file, shapes, akamaster_resnet_name)


def config_of(network: str, task: Task) -> dict[str, Any]:
    """Return the configuration of a network at the preset's scale."""
    return {**task.preset.configs.get(network, {}), "num_classes": task.dataset.num_classes}


def folded(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Fold each batch norm `<stage>_bn<i>` into the convolution `<stage>_conv<i>` before it.

    kernel' = kernel * s and bias' = (bias - mean) * s + shift, s = scale / sqrt(variance + 1e-5):
    the same function in evaluation mode, without batch norm.
    """
    params, statistics = variables["params"], variables["batch_stats"]
    found: dict[str, Any] = {}
    for name, layer in params.items():
        if "_bn" in name:
            continue
        norm = name.replace("_conv", "_bn")
        if norm in statistics:
            own, seen = params[norm], statistics[norm]
            scale = own["scale"] / jnp.sqrt(seen["var"] + 1e-5)
            bias = (layer["bias"] - seen["mean"]) * scale + own["bias"]
            layer = {"kernel": layer["kernel"] * scale, "bias": bias}
        found[name] = dict(layer)
    return {"params": found}


def compressed(recipe: Recipe, made: Made, task: Task, key: jax.Array) -> Made:
    """Remove channels by meta-learned gates, or decompose convolutions, as the recipe says."""
    if recipe.flops is None and not recipe.ranks:
        return made
    one = jax.ShapeDtypeStruct(task.image_shape, jnp.float32)
    graph = jc.trace(made.apply, made.variables, one)
    if recipe.flops is not None:
        budget = jc.Budget(flops=recipe.flops)
        if task.preset.published:
            scores = learned_scores(graph, made, task, budget, key)
        else:
            scores = gate_scores(graph, made, task, key)
        change = jc.shrink(graph, jc.select(graph, scores, budget))
    else:
        change = factorization(graph, recipe.ranks, made.network[1].get("width", 64) / 64)
    return Made(
        made.network,
        change.function(made.apply),
        change.function(made.train_apply),
        change.variables(made.variables),
        jc.chain(made.compression, change),
    )


def gate_scores(graph: jc.Graph, made: Made, task: Task, key: jax.Array) -> dict[str, Any]:
    """Score channels by the query loss through two inner steps, over a few episodes, per cost."""
    episodes, steps, size = task.preset.episodes, 2, 32
    count = episodes * (steps + 1) * size
    batches = augmented(task.dataset, key, count=count, batch_size=size, settings=views_of(task))
    grouped = jax.tree.map(lambda x: x.reshape(episodes, steps + 1, *x.shape[1:]), batches)
    support = jax.tree.map(lambda x: x[:, :steps], grouped)
    query = jax.tree.map(lambda x: x[:, steps], grouped)

    def loss(variables: Any, batch: Any) -> jax.Array:
        return cross_entropy(made.apply(variables, batch["image"]), batch["label"]).mean()

    return dict(jc.prune.per_cost(graph, meta(graph, loss, made.variables, support, query)))


def learned_scores(
    graph: jc.Graph, made: Made, task: Task, budget: jc.Budget, key: jax.Array
) -> dict[str, Any]:
    """Score channels by gates that learn to keep a trained network's own answers."""
    groups, functions = jc.graph.internal_groups(graph), (made.apply, made.train_apply)
    source = source_of(graph, groups, functions, made.variables, task.dataset, views_of(task))
    return score("learned", source, budget, key)


def factorization(graph: jc.Graph, ranks: Sequence[int], width: float) -> jc.Compression:
    """Decompose the convolutions, in order, to these ranks times the relative width."""
    paths = [path for path in graph.sites if len(graph.leaves[path].shape) == 4]
    wanted = {p: max(1, round(r * width)) for p, r in zip(paths, ranks, strict=True)}
    return jc.factorize(graph, wanted, {path: "spatial" for path in paths})


def views_of(task: Task) -> Views:
    """Return the augmentation: digits must not be mirrored."""
    return Views(pad=4, flip=task.preset.dataset != "digits")


def dense_params(task: Task) -> int:
    """Count the parameters of the scale's VGG-19, to which all ratios are: 20,554,826 at full."""
    module = models.build("vgg19", **config_of("vgg19", task))
    shapes = jax.eval_shape(lambda key: models.initialize(module, key, task.image_shape),
                            jax.random.key(0))  # fmt: skip
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
