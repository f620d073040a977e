"""Batches of images, read and decoded by Grain's threads or processes, one part for each process.

A batch is a dict of `image uint8[batch, height, width, 3]`, `label`, `example` and `view`
`int32[batch]`, and where it is filled up `mask bool[batch]`. Normalising is left to the device.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import grain
import jax
import numpy as np
from absl import flags
from grain.sharding import ShardOptions

from experiments.common.streaming.crops import Crop, centre
from experiments.common.streaming.drawn import view_of
from experiments.common.streaming.images import Images
from experiments.common.streaming.orders import Order, Shuffled, Straight
from experiments.common.streaming.pictures import picture
from jaxcompress.knowledge.fingerprints import fingerprint_json

__all__ = ["SHARE", "Batches", "Reading", "evaluation", "this_process", "training"]

SHARE = 224 / 256
"""Of the shorter side, what evaluation cuts out of the middle."""


def this_process() -> ShardOptions:
    """Return this process's part of every batch, among all of `jax.distributed`.

    Example:
        >>> this_process().shard_count
        1
    """
    return ShardOptions(jax.process_index(), jax.process_count())


@dataclasses.dataclass(frozen=True)
class Reading:
    """Who reads, which changes no pixel and no batch.

    Attributes:
        threads: of each process that decode, a batch each.
        workers: processes that read beside this one; 0 for this one alone.
    """

    threads: int = 2
    workers: int = 0


@dataclasses.dataclass(frozen=True)
class _Load:
    """Reads and decodes what stands at a position; workers get a copy of it."""

    images: Images
    order: Order
    crop: Crop
    seed: int

    def __call__(self, position: int) -> dict[str, Any]:
        example, view, is_real = self.order.address(position)
        encoded = self.images[example]
        numbers = {"label": encoded.label, "example": example, "view": view}
        fields = {name: np.int32(number) for name, number in numbers.items()}
        if isinstance(self.order, Shuffled):
            shown = view_of(self.images, example, view, self.crop, self.seed)
            return {"image": shown, **fields}
        middle = picture(encoded.data, self.crop.size, partial(centre, share=SHARE))
        return {"image": middle, **fields, "mask": np.bool_(is_real)}


class Batches(Iterator[dict[str, np.ndarray]]):
    """An iterator whose state is how many batches it has given, so that any reader goes on with it.

    Args:
        load: decodes what stands at a position.
        shard: which part of every batch this process reads.
        reading: by how many threads and processes.

    Raises:
        ValueError: if batches do not divide among the processes.
    """

    def __init__(self, load: _Load, shard: ShardOptions, reading: Reading) -> None:
        self._load, self._shard, self._reading = load, shard, reading
        size = load.order.batch_size
        if size % shard.shard_count:
            raise ValueError(
                f"a batch is split over all processes, but batch_size={size} does not divide by "
                f"{shard.shard_count}; take a multiple"
            )
        self._given = 0
        self._iterator: Any = None

    def __len__(self) -> int:
        """How many batches there are in all."""
        return self._load.order.batches

    def __next__(self) -> dict[str, np.ndarray]:
        """Return the next batch."""
        if self._iterator is None:
            self._iterator = iter(self._dataset())
        batch: dict[str, np.ndarray] = next(self._iterator)
        self._given += 1
        return batch

    def get_state(self) -> bytes:
        """Return the state as JSON; it is the same in all processes, threads and workers."""
        return json.dumps({"given": self._given, "of": self._identity}, sort_keys=True).encode()

    def set_state(self, state: bytes) -> None:
        """Go on after the batches that were given when the state was taken.

        Args:
            state: what `get_state` returned.

        Raises:
            ValueError: if it is of other images, another order or other crops.
        """
        known = json.loads(state)
        if known["of"] != self._identity:
            raise ValueError(
                "an iterator goes on with the images, order and crops that its state is of, but "
                f"that is of {known['of']}, and these are {self._identity}; pass the same settings"
            )
        self.close()
        self._given = int(known["given"])

    def close(self) -> None:
        """Stop the threads and processes that read ahead."""
        if self._iterator is not None:
            self._iterator.close()
        self._iterator = None

    @property
    def _identity(self) -> str:
        load = self._load
        order = [type(load.order).__name__, dataclasses.asdict(load.order)]
        facts = [load.images.identity, order, dataclasses.asdict(load.crop), load.seed]
        return fingerprint_json(facts)[:12]

    def _dataset(self) -> grain.IterDataset[Any]:
        size, shard = self._load.order.batch_size, self._shard
        positions = grain.MapDataset.range(self._given * size, len(self) * size)
        mine = positions[shard.shard_index :: shard.shard_count]
        # Batches are made before workers share them out, so that their number changes no batch.
        batches = mine.map(self._load).batch(size // shard.shard_count)
        threads = self._reading.threads
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
        read = batches.to_iter_dataset(options)
        if not self._reading.workers:
            return read
        if not flags.FLAGS.is_parsed():
            # Grain's processes read its flags, which no main of absl's has parsed here.
            flags.FLAGS.mark_as_parsed()
        return read.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._reading.workers))


def training(
    images: Images,
    order: Shuffled,
    crop: Crop,
    *,
    seed: int = 0,
    shard: ShardOptions | None = None,
    reading: Reading = Reading(),  # noqa: B008
) -> Batches:
    """Return the batches of all epochs: random views, and nothing of a batch's remainder.

    Args:
        images: what is read.
        order: of the examples, and which view of each.
        crop: what a view may be.
        seed: of the views; stored knowledge of them is drawn with the same.
        shard: this process's part of every batch; by default among all of `jax.distributed`.
        reading: by how many threads and processes.

    Raises:
        ValueError: if batches do not divide among the processes.
    """
    return Batches(_Load(images, order, crop, seed), shard or this_process(), reading)


def evaluation(
    images: Images,
    batch_size: int,
    size: int,
    *,
    shard: ShardOptions | None = None,
    reading: Reading = Reading(),  # noqa: B008
) -> Batches:
    """Return every image once, its middle; the last batch is filled up, as `mask` says.

    Args:
        images: what is read.
        batch_size: images of a batch, of all processes together.
        size: height and width.
        shard: this process's part of every batch; by default among all of `jax.distributed`.
        reading: by how many threads and processes.

    Raises:
        ValueError: if batches do not divide among the processes.
    """
    load = _Load(images, Straight(len(images), batch_size), Crop(size), 0)
    return Batches(load, shard or this_process(), reading)
