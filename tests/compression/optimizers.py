"""One network, the optimizers that train it, and their states after two steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcompress.compression import Compression
from jaxcompress.graph import trace
from jaxcompress.prune import shrink

__all__ = ["OPTIMIZERS", "ROWS", "SHAPES", "apply", "pruned", "trained", "variables_of", "walk"]

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
SHAPES = {"first": (4, 6), "bias": (6,), "second": (6, 5), "third": (5, 2)}


def variables_of(collection: bool) -> Any:
    generator = np.random.default_rng(1)
    leaves = {n: jnp.asarray(generator.normal(size=s), jnp.float32) for n, s in SHAPES.items()}
    return {"params": leaves} if collection else leaves


def apply(variables: Any, rows: jax.Array) -> jax.Array:
    leaves = variables.get("params", variables)
    hidden = jnp.tanh(rows @ leaves["first"] + leaves["bias"])
    return jnp.tanh(hidden @ leaves["second"]) @ leaves["third"]


def pruned(variables: Any) -> Compression:
    graph = trace(apply, variables, ROWS)
    return shrink(graph, {n: np.arange(g.width) % 2 == 0 for n, g in graph.groups.items()})


def labels(tree: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "decayed" if "second" in jax.tree_util.keystr(path) else "plain", tree
    )


def walk(tree: Any) -> Any:
    """Label a tree of dicts by its keys, as optax's documentation does."""
    return {
        key: walk(child) if isinstance(child, dict) else "first" if key == "third" else "other"
        for key, child in tree.items()
    }


def biases(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim == 1, tree)


OPTIMIZERS = {
    "adam": optax.adam(1e-2),
    "adamw with a schedule": optax.adamw(optax.cosine_decay_schedule(1e-2, 10)),
    "sgd with momentum": optax.sgd(1e-2, momentum=0.9, nesterov=True),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.trace(0.9)),
    "masked": optax.chain(optax.masked(optax.trace(0.5), biases), optax.sgd(1e-2)),
    "multi_transform": optax.multi_transform(
        {"decayed": optax.adam(1e-2), "plain": optax.sgd(1e-2, momentum=0.9)}, labels
    ),
    "injected": optax.inject_hyperparams(optax.adam)(learning_rate=1e-2),
    "labelled by walking": optax.multi_transform(
        {"first": optax.adam(1e-2), "other": optax.sgd(1e-2, momentum=0.9)}, lambda tree: walk(tree)
    ),
    "adafactor, not factored": optax.adafactor(1e-2),
    "averaged": optax.chain(optax.scale_by_adam(), optax.ema(0.9)),
    "within an accumulation": optax.MultiSteps(optax.adam(1e-2), 4).gradient_transformation(),
}


def trained(tx: Any, variables: Any) -> Any:
    """Return the state after two steps with gradients that a shrink can be followed through."""

    @jax.jit
    def two_steps(variables: Any) -> Any:
        state = tx.init(variables)
        for step in (1.0, 2.0):
            gradients = jax.tree.map(lambda leaf, step=step: step * jnp.sin(leaf), variables)
            _, state = tx.update(gradients, state, variables)
        return state

    return two_steps(variables)
