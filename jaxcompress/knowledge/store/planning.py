"""What a store will hold and how large it will be, known before the teacher runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax

from jaxcompress.annotations import Batch, Json, PyTree
from jaxcompress.knowledge.fingerprints import fingerprint
from jaxcompress.knowledge.masking import without_padding
from jaxcompress.knowledge.source import Inputs, Source, draw
from jaxcompress.knowledge.store.manifest import Manifest, Record
from jaxcompress.knowledge.store.storage import Storage, encode

__all__ = ["Recorder", "Teacher", "num_bytes", "plan", "recorder"]

Teacher: TypeAlias = Callable[[PyTree, Batch], Mapping[str, jax.Array]]
"""`teacher(variables, inputs) -> {name: [batch, ...]}`, of images as the views are drawn, or of
what else the source holds."""

Recorder: TypeAlias = Callable[[Any, jax.Array | None, Inputs], dict[str, jax.Array]]
"""`recorder(variables, key, inputs) -> {record name: [batch, ...]}`."""


def recorder(teacher: Teacher, source: Source, storage: Storage) -> Recorder:
    """Make the function that draws views, runs the teacher and encodes its outputs."""

    def record(variables: PyTree, key: jax.Array | None, inputs: Inputs) -> dict[str, jax.Array]:
        drawn = draw(source, inputs, key)
        outputs = dict(teacher(variables, drawn))
        if source.mask is not None:
            outputs = without_padding(outputs, source.mask(drawn))
        return encode(outputs, storage)

    return record


def plan(
    teacher: Teacher,
    variables: PyTree,
    source: Source,
    storage: Storage | None = None,
    about: Mapping[str, Json] | None = None,
) -> Manifest:
    """Say what `write` would store, without running the teacher.

    `num_bytes` of the result is the size, before compression.

    Args:
        teacher: see `write`.
        variables: of the teacher.
        source: the examples and their views.
        storage: how outputs are stored.
        about: further facts that readers must agree on, as JSON can hold.

    Raises:
        ValueError: if an output has not one row per example, or other positions than the
            source's mask.

    Example:
        >>> import numpy as np
        >>> teacher = lambda variables, images: {"logits": images.reshape(len(images), -1) * 1.0}
        >>> source = Source(np.zeros((6, 2, 2, 1), np.uint8), 6, "tiny", jax.random.key(0))
        >>> manifest = plan(teacher, {}, source, Storage(dtype="float32"))
        >>> manifest.records["logits"].shape, num_bytes(manifest)
        ((4,), 96)
    """
    storage = storage or Storage()
    inputs = source.inputs([0, 0], [0, 0])
    record = recorder(teacher, source, storage)
    outputs = jax.eval_shape(record, variables, source.key, inputs)
    wrong = {name: x.shape for name, x in outputs.items() if x.shape[:1] != (2,)}
    if wrong or not outputs:
        raise ValueError(
            "a teacher returns a dict of arrays with one row per example, but for 2 examples these "
            f"have other shapes: {wrong or 'none is returned'}"
        )
    return Manifest(
        teacher=fingerprint(variables),
        dataset=source.dataset,
        examples=source.examples,
        views=source.describe(),
        storage=dataclasses.asdict(storage),
        about=dict(about or {}),
        records={name: Record(x.shape[1:], x.dtype.name) for name, x in outputs.items()},
    )


def num_bytes(manifest: Manifest) -> int:
    """Return the size of a store before compression, in bytes.

    Example:
        >>> num_bytes(Manifest("", "", 10, {"count": 2}, {}, {}, {"logits": Record((5,), "int8")}))
        100
    """
    one: int = sum(
        math.prod(record.shape) * jax.numpy.dtype(record.dtype).itemsize
        for record in manifest.records.values()
    )
    return one * manifest.examples * int(manifest.views["count"])
