"""The networks whose steps are compiled: abstract variables and batches, nothing is allocated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

import jaxcompress as jc
from jaxcompress import models
from jaxcompress.annotations import Batch, Function, PyTree
from jaxcompress.knowledge import cross_entropy

__all__ = ["BUILDERS", "Network", "image_network"]


@dataclass(frozen=True, eq=False)
class Network:
    """One network at one batch.

    Attributes:
        module: the Linen module.
        variables: abstract.
        batch: abstract; leaves `[examples, ...]`.
        input: the name of the leaf that the network takes.
        apply: evaluation.
        train: `(variables, inputs, key) -> (logits, state)`.
        graph: of the evaluation of one example.
    """

    module: Any
    variables: PyTree
    batch: Batch
    input: str
    apply: Function
    train: Callable[..., Any]
    graph: jc.Graph

    def loss(self, variables: PyTree, batch: Batch) -> jax.Array:
        """Return the mean cross-entropy in training mode."""
        logits, _ = self.train(variables, batch[self.input], None)
        return cross_entropy(logits.astype(jnp.float32), batch["label"]).mean()


def image_network(name: str, size: int, classes: int, examples: int, dtype: Any) -> Network:
    """Return a convolutional network on square images."""
    batch = {
        "image": jax.ShapeDtypeStruct((examples, size, size, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((examples,), jnp.int32),
    }
    return _network(models.build(name, num_classes=classes, dtype=dtype), batch, "image")


def decoder_network(examples: int, depth: int = 2, length: int = 512) -> Network:
    """Return the reference decoder at the width of seven billion parameters, and fewer layers."""
    tokens = jax.ShapeDtypeStruct((examples, length), jnp.int32)
    module = models.Decoder(depth=depth, dtype=jnp.bfloat16)
    return _network(module, {"tokens": tokens, "label": tokens}, "tokens")


def _network(module: Any, batch: Batch, name: str) -> Network:
    one = jax.ShapeDtypeStruct((1, *batch[name].shape[1:]), batch[name].dtype)
    variables = jax.eval_shape(lambda: models.initialize(module, jax.random.key(0), one))
    apply = models.evaluation_function(module)
    graph = jc.trace(apply, variables, one)
    return Network(module, variables, batch, name, apply, models.training_function(module), graph)


BUILDERS: dict[str, Callable[[int], Network]] = {
    "resnet56": lambda chips: image_network("resnet56", 32, 10, 128 * chips, None),
    "resnet50": lambda chips: image_network("resnet50", 224, 1000, 64 * chips, jnp.bfloat16),
    "resnet50_256": lambda chips: image_network("resnet50", 224, 1000, 256 * chips, jnp.bfloat16),
    "decoder": lambda chips: decoder_network(4 * chips),
}
"""By name, of a number of chips: 128, 64, 256 images or 4 sentences on each."""
