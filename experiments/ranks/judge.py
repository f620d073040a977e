"""How networks are judged: by the original function, on variables of its shapes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from experiments.common import data
from experiments.common.measure import augmented, classified
from experiments.common.network import Network
from experiments.ranks.study import Chosen, Known
from jaxcompress import low_rank, parallel, training
from jaxcompress.annotations import Batch, PyTree
from jaxcompress.knowledge.drawing import Views

__all__ = ["Judge"]


@dataclasses.dataclass(frozen=True)
class Judge:
    """How networks are judged.

    Attributes:
        network: the original.
        dataset: its data.
        views: of the augmentation.
        mesh: the devices.
        known: of its sites.
        key: of the images that statistics are re-estimated on.
        statistics_images: how many.
        choice_images: training images that ranks are chosen by.
        fitting_images: training images of each sweep of `compensated`.
        test_images: how many test images a comparison classifies; 0 for all.
        batch_size: of the re-estimation.
    """

    network: Network
    dataset: data.Dataset
    views: Views
    mesh: Mesh
    known: Known
    key: jax.Array
    statistics_images: int
    choice_images: int
    fitting_images: int
    test_images: int
    batch_size: int

    def accuracy(self, variables: PyTree, images: Batch, labels: Batch) -> float:
        """Return the accuracy of the original function on variables of its shapes."""
        preprocess, apply = data.preprocess(self.dataset), self.network.apply
        return classified(apply, variables, images, labels, preprocess, self.mesh)["accuracy"]

    def test_accuracy(self, variables: PyTree) -> float:
        """Return the accuracy on the test images of a comparison."""
        dataset, count = self.dataset, self.count
        return self.accuracy(variables, dataset.test_images[:count], dataset.test_labels[:count])

    @property
    def count(self) -> int:
        """How many test images a comparison classifies."""
        return self.test_images or len(self.dataset.test_labels)

    def choice_accuracy(self) -> Callable[[Chosen], float]:
        """Return the accuracy at ranks on training images, with factors of the weights alone."""
        known, dataset, count = self.known, self.dataset, self.choice_images
        images, labels = dataset.train_images[:count], dataset.train_labels[:count]
        at = functools.cache(
            lambda: low_rank.truncations(known.graph, self.network.variables, known.forms)
        )
        return lambda chosen: self.accuracy(at()(chosen), images, labels)

    def renewed(self, train_apply: Any, variables: PyTree) -> Any:
        """Re-estimate BatchNorm statistics on augmented training images."""
        batches = augmented(
            self.dataset,
            self.key,
            count=self.statistics_images,
            batch_size=self.batch_size,
            settings=self.views,
        )
        variables = parallel.on_one_device(variables)
        return training.reestimate(train_apply, variables, batches["image"], key=self.key)
