"""What all networks of one seed share: images, scores of channels, statistics, a teacher."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcompress as jc
from experiments.combined.settings import Config
from experiments.common import data
from experiments.common.measure import augmented
from experiments.common.network import Network
from experiments.common.score import problem_of, source_of
from experiments.common.teaching import stored_logits
from experiments.common.tuning import Tuner
from jaxcompress import artifact, knowledge, parallel, recipes, training
from jaxcompress.annotations import Batch, Function, PyTree
from jaxcompress.graph.input_rows import forms_by_inputs
from jaxcompress.knowledge import kd
from jaxcompress.low_rank import input_covariances
from jaxcompress.processes import by_first
from jaxcompress.recipes import sites
from jaxcompress.recipes.distances import TEMPERATURE

__all__ = ["BATCH", "INT8", "VIEWS", "Making", "num_bytes"]

VIEWS = knowledge.Views()
INT8 = artifact.Encoding("int8")
BATCH = 128


@dataclasses.dataclass(frozen=True)
class Making:
    """What is known of one network and one seed; each thing is computed once, when it is wanted.

    Attributes:
        config: the settings.
        whole: the network.
        dataset: its data.
        seed: of everything random.
    """

    config: Config
    whole: Network
    dataset: data.Dataset
    seed: int

    def key(self, number: int) -> jax.Array:
        """Return a key of its own for one kind of draw."""
        return jax.random.fold_in(jax.random.key(self.seed), number)

    @functools.cached_property
    def shown(self) -> data.Dataset:
        """The data but for the training images that splits are judged on."""
        count = len(self.dataset.train_images) - self.config.looks.held
        return data.first(self.dataset, count)

    @functools.cached_property
    def held(self) -> tuple[jax.Array, np.ndarray]:
        """Training images that nothing else looks at, and what the whole network says of them."""
        images = self.dataset.train_images[-self.config.looks.held :]
        normal = data.preprocess(self.dataset)(images)
        return normal, stored_logits(self.whole.apply, self.whole.variables, normal)

    def distance(self, network: Network) -> float:
        """Return how far a network is from the whole one's answers, as the first process says."""
        return float(by_first("how far answers are", lambda: self._distance(network)))

    def _distance(self, network: Network) -> float:
        """Compare answers to the held images."""
        images, answers = self.held
        logits = stored_logits(network.apply, network.variables, images)
        return float(kd(jnp.asarray(logits), jnp.asarray(answers), TEMPERATURE).mean())

    def images(self, number: int, count: int, size: int = BATCH) -> jax.Array:
        """Draw augmented training images `[steps, size, ...]`, the same ones for every network."""
        drawn = augmented(
            self.shown, self.key(number), count=count, batch_size=size, settings=VIEWS
        )
        return drawn["image"]

    def traced(self, network: Network) -> jc.Graph:
        """Return the graph of a network."""
        return jc.trace(network.apply, network.variables, data.image_shape(self.dataset))

    @functools.cached_property
    def graph(self) -> jc.Graph:
        """Of the whole network."""
        return self.traced(self.whole)

    def scores_of(self, network: Network) -> Mapping[str, Any]:
        """Score the channels inside blocks; those of the whole network once for every budget."""
        return self._scores if network is self.whole else self._scored(network, again=True)

    @functools.cached_property
    def _scores(self) -> Mapping[str, Any]:
        return self._scored(self.whole, again=False)

    def _scored(self, network: Network, again: bool) -> Mapping[str, Any]:
        graph, looks = self.traced(network), self.config.looks
        functions = network.apply, network.train_apply
        groups = jc.graph.internal_groups(graph)
        source = source_of(graph, groups, functions, network.variables, self.shown, VIEWS)
        fisher = recipes.Fisher(looks.again if again else looks.rounds)
        return fisher(problem_of(source), jc.Budget(flops=0.5), self.key(1))

    def squares_of(self, network: Network) -> Mapping[str, Any]:
        """Return E[x x^T] of all kernels that may lose inputs; of the whole network's once."""
        return self._squares if network is self.whole else self._squared(self.renewed(network))

    @functools.cached_property
    def _squares(self) -> Mapping[str, Any]:
        return self._squared(self.whole)

    def _squared(self, network: Network) -> Mapping[str, Any]:
        graph, count = self.traced(network), self.config.looks.covariances
        names = jc.graph.internal_groups(graph)
        readers = {one.path for name in names for one in graph.groups[name].consumers}
        forms = forms_by_inputs(graph, {path for path in readers if path is not None})
        images = list(self.images(2, count, min(BATCH, count)))
        return input_covariances(graph, network.apply, network.variables, images, forms)

    def known_of(self, network: Network) -> sites.Known:
        """Look at the sites of a network; at those of the whole one once for every budget."""
        return self._known if network is self.whole else self._looked_at(self.renewed(network))

    @functools.cached_property
    def _known(self) -> sites.Known:
        return self._looked_at(self.whole)

    def _looked_at(self, network: Network) -> sites.Known:
        graph, count = self.traced(network), self.config.looks.covariances
        size = min(BATCH, count)
        return sites.known_sites(
            graph,
            (network.apply, _centred(network.apply)),
            network.variables,
            list(self.images(2, count, size)),
            jc.ranks.default_forms(graph),
            True,
            recipes.LowRankSettings(),
            self.key(3),
        )

    def renewed(self, network: Network) -> Network:
        """Return a network with the statistics of BatchNorm re-estimated."""
        count = self.config.looks.statistics
        images = self.images(4, count, min(BATCH, count))
        values = parallel.on_one_device(network.variables)
        renewed = training.reestimate(network.train_apply, values, images, key=self.key(4))
        return network._replace(variables=renewed)

    @functools.cached_property
    def tuner(self) -> Tuner:
        """Teaches by the whole network's answers, stored once, to images augmented once."""
        recovery, shown = self.config.recovery, self.shown
        chosen = np.random.default_rng(self.seed).permutation(len(shown.train_images))
        chosen = chosen[: recovery.train_images or None]
        images = knowledge.views(
            self.key(5), jnp.asarray(chosen), 0, shown.train_images[chosen], settings=VIEWS
        )
        lesson = dataclasses.replace(
            shown, train_images=np.asarray(images), train_labels=shown.train_labels[chosen]
        )
        return Tuner(self.whole, lesson, None, recovery, self.key(6), parallel.mesh())

    @functools.cached_property
    def dense_bytes(self) -> int:
        """What the whole network takes on disk, in float32."""
        return num_bytes(self.whole, None)

    @functools.cached_property
    def rounded_bytes(self) -> int:
        """What the whole network takes on disk as int8."""
        return num_bytes(self.whole)


def num_bytes(network: Network, encoding: artifact.Encoding | None = INT8) -> int:
    """Save a network for a moment, and return what it takes on disk."""
    with tempfile.TemporaryDirectory() as name:
        # Of several processes the first alone writes, and its folder tells the size.
        folder = Path(name) / "trial"
        jc.save(
            folder,
            network.compression,
            network.variables,
            network=network.source,
            encoding=encoding,
        )
        return int(by_first("bytes", lambda: artifact.num_bytes(folder)))


def _centred(apply: Function) -> Function:
    """Return the logits without what is added to all of an example's, which changes nothing."""

    def centred(variables: PyTree, images: Batch) -> jax.Array:
        logits = apply(variables, images)
        return logits - logits.mean(-1, keepdims=True)

    return centred
