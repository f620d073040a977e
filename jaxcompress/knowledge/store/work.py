"""The teacher at work: batches of views in, records out, refused where they are not finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxcompress import parallel
from jaxcompress.annotations import PyTree
from jaxcompress.knowledge.source import Inputs, Source
from jaxcompress.knowledge.store.arrays import Block
from jaxcompress.knowledge.store.planning import Recorder

__all__ = ["Work", "check_finite"]


class Work(NamedTuple):
    """How the records of a block are made.

    Attributes:
        record: compiled.
        variables: of the teacher, on the devices.
        source: the examples and their views.
        batch_size: examples per call.
        mesh: the devices that share a batch.
    """

    record: Recorder
    variables: PyTree
    source: Source
    batch_size: int
    mesh: Mesh

    @property
    def size(self) -> int:
        """Rows of every call, so that all share one program."""
        return min(self.batch_size, self.source.examples + -self.source.examples % self.mesh.size)

    def start(self, examples: np.ndarray, view: int) -> tuple[int, dict[str, jax.Array]]:
        """Start the teacher on at most `size` examples: how many rows are real, and the records."""
        padded, mask = parallel.pad_batch(examples.astype(np.int32), self.size)
        inputs: Inputs = self.source.inputs(padded, view)
        inputs = jax.device_put(inputs, parallel.batch_sharding(self.mesh))
        return int(mask.sum()), self.record(self.variables, self.source.key, inputs)

    def records(self, examples: np.ndarray, view: int) -> dict[str, np.ndarray]:
        """Return the records of at most `size` examples, finite or not."""
        count, records = self.start(examples, view)
        return {name: np.asarray(array)[:count] for name, array in records.items()}

    def block(self, block: Block) -> dict[str, np.ndarray]:
        """Compute the records of a block: `{name: [examples of the block, ...]}`.

        Raises:
            FloatingPointError: if one is not finite, naming the examples.
        """
        parts = list(self._batches(block))
        joined = {
            name: np.concatenate([np.asarray(records[name])[:count] for count, records in parts])
            for name in parts[0][1]
        }
        check_finite(joined, block)
        return joined

    def _batches(self, block: Block) -> Iterator[tuple[int, dict[str, jax.Array]]]:
        for start in range(block.start, block.stop, self.size):
            yield self.start(np.arange(start, min(start + self.size, block.stop)), block.view)


def check_finite(records: Mapping[str, np.ndarray], block: Block) -> None:
    """Refuse records, of a block's first examples, that are not finite.

    Raises:
        FloatingPointError: naming the examples.
    """
    offences = []
    for name, array in records.items():
        if not jnp.issubdtype(array.dtype, jnp.inexact):
            continue
        rows = np.isfinite(array.astype(np.float32)).reshape(len(array), -1).all(axis=1)
        wrong = (block.start + np.flatnonzero(~rows)).tolist()
        if wrong:
            offences.append(f"{name} of examples {wrong[:8]} (of {len(wrong)}), view {block.view}")
    if offences:
        raise FloatingPointError(
            f"stored knowledge is finite, but these records are not: {'; '.join(offences)}; check "
            "the teacher, or store a dtype of larger range (float16 ends at 65504)"
        )
