"""Evaluation: sums over examples, so that each counts once on any number of devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxcompress import parallel
from jaxcompress.annotations import Batch, Function, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.backend.convolutions import fast_convolutions
from jaxcompress.compiled import jit_of
from jaxcompress.finite import non_finite
from jaxcompress.layouts import placed
from jaxcompress.per_device import AxisName

__all__ = ["Apply", "EvalStep", "eval_step", "evaluate"]

Apply: TypeAlias = Callable[[PyTree, Batch], jax.Array]
"""`apply(variables, images) -> logits`."""

Preprocess: TypeAlias = Callable[[Any], Any]

EvalStep: TypeAlias = Callable[[PyTree, Batch], dict[str, jax.Array]]
"""`step(variables, batch) -> sums`."""


def eval_step(apply: Apply, *, axis_name: AxisName = None) -> EvalStep:
    """Make the step that sums correct answers and cross-entropies over a masked batch.

    Args:
        apply: `apply(variables, images) -> logits [batch, classes]`.
        axis_name: sum over this axis of the surrounding `jax.shard_map` or `jax.pmap` too.

    Returns:
        `step(variables, batch) -> {"correct", "loss", "count", "not_finite"}`, all scalars, for
        `batch` a dict of `image [batch, ...]`, `label int[batch]` and `mask bool[batch]`. The last
        counts the examples whose loss is NaN or infinite, as where a label is no class.

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

    def step(variables: PyTree, batch: Batch) -> dict[str, jax.Array]:
        sums = _count(apply(variables, batch["image"]), batch)
        return sums if axis_name is None else jax.lax.psum(sums, axis_name)

    return step


def _count(logits: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    """Sum over a masked batch; a label that is no class has a loss of NaN."""
    logits, label, mask = logits.astype(jnp.float32), batch["label"], batch["mask"]
    known = (label >= 0) & (label < logits.shape[-1])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(known, label, 0))
    loss = jnp.where(known, loss, jnp.nan)
    return {
        "correct": jnp.sum((logits.argmax(-1) == label) & mask, dtype=jnp.int32),
        "loss": jnp.sum(jnp.where(mask, loss, 0)),
        "count": jnp.sum(mask, dtype=jnp.int32),
        "not_finite": jnp.sum(~jnp.isfinite(loss) & mask, dtype=jnp.int32),
    }


def _sums(apply: Apply, preprocess: Preprocess | None = None, *, alone: bool) -> Function:
    """Make the step whose sums come with the number of classes."""

    def step(variables: PyTree, batch: Batch) -> tuple[dict[str, jax.Array], jax.Array]:
        image = batch["image"] if preprocess is None else preprocess(batch["image"])
        logits = apply(variables, image)
        return _count(logits, batch), jnp.int32(logits.shape[-1])

    return fast_convolutions(step) if alone else step


def evaluate(
    apply: Apply,
    variables: PyTree,
    images: Batch,
    labels: Batch,
    *,
    batch_size: int,
    mesh: Mesh,
    preprocess: Preprocess | None = None,
) -> dict[str, float]:
    """Measure accuracy and mean cross-entropy over a data set.

    All batches have one shape, the last one padded and masked: one compilation, which later calls
    with the same `apply` and `preprocess` objects reuse, as long as these live. On one device that
    is a CPU, convolutions run on oneDNN (`fast_convolutions`).

    Args:
        apply: `apply(variables, images) -> logits [batch, classes]`.
        variables: the network's; those that lie on the mesh stay as they lie.
        images: `[n, ...]` on the host, e.g. uint8. With several processes each passes a part of
            its own, of any size.
        labels: `int[n]`.
        batch_size: examples per batch, of each process, rounded up to a multiple of the number of
            its devices.
        mesh: the devices to use.
        preprocess: what turns `images` into the network's input, inside jit.

    Returns:
        ``{"accuracy": fraction, "loss": nats, "count": n}``.

    Raises:
        ValueError: if there are no images, or not one label for each; if a label is no class, or
            the loss of an example is NaN or infinite.

    Example:
        >>> mesh = parallel.mesh(jax.devices()[:1])
        >>> images, labels = np.eye(3, dtype=np.float32), np.array([0, 1, 0])
        >>> result = evaluate(lambda variables, x: x, {}, images, labels, batch_size=2, mesh=mesh)
        >>> round(result["accuracy"], 3), result["count"]
        (0.667, 3)
    """
    require(batch_size=integer(batch_size))
    sizes = parallel.of_processes([len(images), len(labels)], mesh)
    _check_sizes(sizes)
    variables = placed(variables, mesh)
    functions = (apply,) if preprocess is None else (apply, preprocess)
    step = jit_of(_sums, *functions, alone=mesh.size == 1)
    totals = None
    for batch in _batches(images, labels, batch_size, mesh, int(sizes[:, 0].max())):
        sums, classes = step(variables, batch)
        if totals is None:
            _check_labels(labels, int(classes), mesh)
        totals = sums if totals is None else jax.tree.map(jnp.add, totals, sums)
    host = jax.device_get(totals)
    count = int(host["count"])
    _check_losses(variables, int(host["not_finite"]), count)
    return {
        "accuracy": int(host["correct"]) / count,
        "loss": float(host["loss"]) / count,
        "count": count,
    }


def _check_sizes(sizes: np.ndarray) -> None:
    """Raise unless every process has images, and a label for each: `int[processes, 2]`."""
    wrong = [f"{images} images and {labels} labels" for images, labels in sizes.tolist()]
    if (sizes[:, 0] == 0).any() or (sizes[:, 0] != sizes[:, 1]).any():
        raise ValueError(
            "evaluation takes at least one image and one label for each, of every process, but got "
            f"{'; '.join(wrong)}; pass both of the same split"
        )


def _check_labels(labels: Batch, classes: int, mesh: Mesh) -> None:
    labels = np.asarray(labels)
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    # All processes refuse together: none may wait for the others' next batch.
    counts = parallel.of_processes([len(wrong)], mesh)[:, 0]
    if counts.any() and not len(wrong):
        raise ValueError(
            f"labels are class numbers from 0 to {classes - 1}, but of the parts of the processes "
            f"{np.flatnonzero(counts).tolist()} some are not; these processes say which"
        )
    if len(wrong):
        raise ValueError(
            f"labels are class numbers from 0 to {classes - 1}, one for each logit, but "
            f"{len(wrong)} of {len(labels)} are not: {np.unique(labels[wrong]).tolist()}, first of "
            f"example {wrong[0]}; leave these examples out, or number the classes from 0"
        )


def _check_losses(variables: PyTree, wrong: int, count: int) -> None:
    if wrong:
        named = ", ".join(non_finite(variables)) or "none"
        raise ValueError(
            "a network is measured by finite losses, but those of "
            f"{wrong} of {count} examples are NaN or infinite; variables with NaN or infinity: "
            f"{named}; mend these, or look at the images and the logits"
        )


def _batches(
    images: Batch, labels: Batch, batch_size: int, mesh: Mesh, longest: int
) -> Iterator[Any]:
    """Yield device batches of one size, rounded up to the number of devices.

    As many as the process with the longest part has: after its own, examples that do not count.
    """
    batch_size += -batch_size % parallel.batch_parts(mesh)
    for start in range(0, longest, batch_size):
        first = min(start, len(images) - 1)
        part = slice(first, first + batch_size)
        batch = {"image": np.asarray(images[part]), "label": np.asarray(labels[part])}
        padded, mask = parallel.pad_batch(batch, batch_size)
        yield parallel.shard_batch({**padded, "mask": mask & (first == start)}, mesh)
