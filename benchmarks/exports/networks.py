"""The networks that are exported: small ones, made without training."""

from __future__ import annotations

from typing import NamedTuple

import jax

import jaxcompress as jc
from benchmarks.exports.settings import Config
from jaxcompress import models
from jaxcompress.annotations import Function, PyTree
from jaxcompress.artifact import akamaster_resnet_name, load_torch_weights
from jaxcompress.low_rank.ranks import sites_of, uniform
from jaxcompress.sparse import make_masks

__all__ = ["Small", "compressed"]

SHAPE = (1, 32, 32, 3)


class Small(NamedTuple):
    """A compressed network: how it was made, its variables, and its function."""

    compression: jc.Compression
    variables: PyTree
    function: Function


def compressed(row: str, config: Config) -> Small:
    """Make the network of a row."""
    apply, variables = _dense(row, config)
    graph = jc.trace(apply, variables, jax.ShapeDtypeStruct(SHAPE, "float32"))
    compression = _compression(row, config, graph, variables)
    return Small(compression, compression.variables(variables), compression.function(apply))


def _compression(row: str, config: Config, graph: jc.Graph, variables: PyTree) -> jc.Compression:
    budget = jc.Budget(flops=config.flops)
    if row == "factorized":
        return jc.factorize(graph, uniform(sites_of(graph, variables), budget))
    if row == "sparse":
        return jc.sparsify(variables, make_masks(variables, config.sparsity))
    scores = jc.importance.magnitude(graph, variables)
    return jc.shrink(graph, jc.select(graph, scores, budget))


def _dense(row: str, config: Config) -> tuple[Function, PyTree]:
    module = models.build("vit_tiny" if row == "vit" else "resnet20")
    key = jax.random.key(config.seed)
    if row == "vit":
        return models.evaluation_function(module), models.initialize(module, key, SHAPE)
    like = jax.eval_shape(lambda key: models.initialize(module, key, SHAPE), key)
    file = config.data_dir / "weights" / "resnet20_cifar10.safetensors"
    variables = load_torch_weights(file, like, akamaster_resnet_name)
    return models.evaluation_function(module), variables
