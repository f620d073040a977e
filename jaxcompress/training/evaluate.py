"""Evaluation: sums over examples, so that each counts once on any number of devices."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxcompress import parallel
from jaxcompress.training.convolutions import fast_convolutions

__all__ = ["Apply", "EvalStep", "eval_step", "evaluate"]

Apply: TypeAlias = Callable[[Any, Any], jax.Array]
"""`apply(variables, images) -> logits`."""

EvalStep: TypeAlias = Callable[[Any, Any], dict[str, jax.Array]]
"""`step(variables, batch) -> sums`."""


def eval_step(apply: Apply, *, axis_name: str | None = None) -> EvalStep:
    """Make the step that sums correct answers and cross-entropies over a masked batch.

    Args:
        apply: `apply(variables, images) -> logits [batch, classes]`.
        axis_name: sum over this axis of the surrounding `jax.shard_map` or `jax.pmap` too.

    Returns:
        `step(variables, batch) -> {"correct", "loss", "count"}`, all scalars, for `batch` a dict
        of `image [batch, ...]`, `label int[batch]` and `mask bool[batch]`.

    Example:
        >>> step = eval_step(lambda variables, images: images)
        >>> batch = {
        ...     "image": jnp.eye(3),
        ...     "label": jnp.array([0, 1, 0]),
        ...     "mask": jnp.array([True, True, False]),
        ... }
        >>> sums = step({}, batch)
        >>> int(sums["correct"]), int(sums["count"])
        (2, 2)
    """

    def step(variables: Any, batch: Any) -> dict[str, jax.Array]:
        logits = apply(variables, batch["image"]).astype(jnp.float32)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        correct = logits.argmax(-1) == batch["label"]
        sums = {
            "correct": jnp.sum(correct & batch["mask"], dtype=jnp.int32),
            "loss": jnp.sum(jnp.where(batch["mask"], loss, 0)),
            "count": jnp.sum(batch["mask"], dtype=jnp.int32),
        }
        return sums if axis_name is None else jax.lax.psum(sums, axis_name)

    return step


@functools.partial(jax.jit, static_argnames=("apply", "preprocess", "alone"))
def _sums(
    variables: Any,
    batch: Any,
    *,
    apply: Apply,
    preprocess: Callable[[Any], Any] | None,
    alone: bool,
) -> dict[str, jax.Array]:
    def step(variables: Any, batch: Any) -> dict[str, jax.Array]:
        if preprocess is not None:
            batch = {**batch, "image": preprocess(batch["image"])}
        return eval_step(apply)(variables, batch)

    return (fast_convolutions(step) if alone else step)(variables, batch)


def evaluate(
    apply: Apply,
    variables: Any,
    images: Any,
    labels: Any,
    *,
    batch_size: int,
    mesh: Mesh,
    preprocess: Callable[[Any], Any] | None = None,
) -> dict[str, float]:
    """Measure accuracy and mean cross-entropy over a data set.

    All batches have one shape, the last one padded and masked: one compilation, which later calls
    with the same `apply` and `preprocess` objects reuse. On one device that is a CPU, convolutions
    run on oneDNN (`fast_convolutions`).

    Args:
        apply: `apply(variables, images) -> logits [batch, classes]`.
        variables: the network's variables.
        images: `[n, ...]` on the host, e.g. uint8.
        labels: `int[n]`.
        batch_size: examples per batch, rounded up to a multiple of the number of devices.
        mesh: the devices to use.
        preprocess: what turns `images` into the network's input, inside jit.

    Returns:
        ``{"accuracy": fraction, "loss": nats, "count": n}``.

    Raises:
        ValueError: if there are no images, or not one label for each.

    Example:
        >>> mesh = parallel.mesh(jax.devices()[:1])
        >>> images, labels = np.eye(3, dtype=np.float32), np.array([0, 1, 0])
        >>> result = evaluate(lambda variables, x: x, {}, images, labels, batch_size=2, mesh=mesh)
        >>> round(result["accuracy"], 3), result["count"]
        (0.667, 3)
    """
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(
            "evaluation takes at least one image and one label for each, but got "
            f"{len(images)} images and {len(labels)} labels; pass both of the same split"
        )
    variables = parallel.replicate(variables, mesh)
    totals = None
    for batch in _batches(images, labels, batch_size, mesh):
        sums = _sums(variables, batch, apply=apply, preprocess=preprocess, alone=mesh.size == 1)
        totals = sums if totals is None else jax.tree.map(jnp.add, totals, sums)
    host = jax.device_get(totals)
    count = int(host["count"])
    return {
        "accuracy": int(host["correct"]) / count,
        "loss": float(host["loss"]) / count,
        "count": count,
    }


def _batches(images: Any, labels: Any, batch_size: int, mesh: Mesh) -> Iterator[Any]:
    """Yield device batches of one size, rounded up to the number of devices."""
    batch_size += -batch_size % mesh.size
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        batch = {"image": np.asarray(images[part]), "label": np.asarray(labels[part])}
        padded, mask = parallel.pad_batch(batch, batch_size)
        yield parallel.shard_batch({**padded, "mask": mask}, mesh)
