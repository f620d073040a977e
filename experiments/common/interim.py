"""The memory bank of EKG, made of interim networks on the way from the dense to the pruned one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jaxcompress as jc
from experiments.common import data
from jaxcompress.annotations import Function, PyTree
from jaxcompress.knowledge import cross_entropy, interim_networks
from jaxcompress.prune import importance

__all__ = ["bank_logits"]

MEMBERS, STEPS = 5, 8


def bank_logits(
    graph: jc.Graph,
    keep: dict[str, np.ndarray],
    train_apply: Function,
    variables: PyTree,
    dataset: data.Dataset,
    flops: float,
) -> np.ndarray:
    """Return the logits `[examples, members, classes]` of five interim networks.

    EKG keeps those that its search passes through; here channels that go are masked in order of
    their magnitude, in steps down to `keep`. As there, BatchNorm runs in training mode.

    Args:
        graph: of the dense network.
        keep: what the pruned network keeps.
        train_apply: the dense network in training mode.
        variables: of the dense network.
        dataset: whose training images are looked at.
        flops: fraction of FLOPs that the pruned network has.
    """
    scores = importance.magnitude(graph, variables)
    # What stays to the end scores above all that goes.
    ordered = {
        g: np.where(keep[g], 2.0, np.argsort(np.argsort(scores[g])) / len(keep[g])) for g in keep
    }
    gated = jc.gated(graph, train_apply)
    preprocess = data.preprocess(dataset)
    images, labels = dataset.train_images, jnp.asarray(dataset.train_labels)

    @jax.jit
    def logits(gates: PyTree, part: jax.Array) -> jax.Array:
        return gated(variables, gates, preprocess(part))[0]

    stored = []
    for budget in np.linspace(1.0, flops, STEPS):
        kept = jc.select(graph, ordered, jc.Budget(flops=float(budget)))
        gates = {name: np.asarray(mask, np.float32) for name, mask in kept.items()}
        parts = [np.asarray(logits(gates, images[i : i + 256])) for i in range(0, len(images), 256)]
        stored.append(np.concatenate(parts))
    losses = [float(np.mean(cross_entropy(jnp.asarray(member), labels))) for member in stored]
    return np.stack([stored[i] for i in interim_networks(losses, MEMBERS)], axis=1)
