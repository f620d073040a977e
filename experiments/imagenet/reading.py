"""The images of the experiment, and the batches that its stages ask for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from grain.sharding import ShardOptions

from experiments.common.streaming import batches
from experiments.common.streaming.crops import Crop
from experiments.common.streaming.drawn import DrawnViews
from experiments.common.streaming.images import Chosen, Images, splits_of
from experiments.common.streaming.orders import Shuffled
from experiments.imagenet.settings import Config

__all__ = ["Data", "load"]

ALONE = ShardOptions(0, 1)


class Data(NamedTuple):
    """The images to learn from and to test on, and how they are read.

    Attributes:
        config: the settings.
        train: images to learn from.
        test: images of which nothing is decided.
    """

    config: Config
    train: Images
    test: Images

    @property
    def crop(self) -> Crop:
        """What a view may be."""
        return Crop(self.config.image_size, self.config.least_area)

    @property
    def reading(self) -> batches.Reading:
        """By how many threads and processes."""
        return batches.Reading(self.config.threads, self.config.workers)

    def drawn(self) -> DrawnViews:
        """Return all views, by number."""
        return DrawnViews(self.train, self.crop, self.config.seed, self.config.threads)

    def looked_at(self, count: int, size: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield batches of `size` training images, each image once, up to `count` of them.

        Args:
            count: of all images, rounded down to whole batches.
            size: of a batch.
        """
        size = min(size, len(self.train))
        order = Shuffled(len(self.train), size, epochs=1, seed=self.config.seed + 1)
        stream = batches.training(
            self.train, order, self.crop, seed=self.config.seed, shard=ALONE, reading=self.reading
        )
        try:
            for batch in itertools.islice(stream, max(1, count // size)):
                yield {"image": batch["image"], "label": batch["label"]}
        finally:
            stream.close()

    def lesson(self) -> batches.Batches:
        """Return the batches of the lesson: of every image the views that are stored, in turn."""
        config = self.config
        order = Shuffled(
            len(self.train), config.batch_size, config.epochs, config.seed, config.stored_views
        )
        return batches.training(
            self.train, order, self.crop, seed=config.seed, reading=self.reading
        )

    def tested(self, size: int) -> batches.Batches:
        """Return every test image once."""
        return batches.evaluation(self.test, size, self.config.image_size, reading=self.reading)


def load(config: Config) -> Data:
    """Find the images; none is decoded.

    Raises:
        FileNotFoundError: if TFDS has not prepared the data set.
        ValueError: if there are no images.
    """
    train, test = splits_of(config.dataset, config.data_dir, config.test_share, config.seed)
    return Data(config, _first(train, config.train_images), _first(test, config.test_images))


def _first(images: Images, count: int) -> Images:
    return images if not 0 < count < len(images) else Chosen(images, tuple(range(count)))
