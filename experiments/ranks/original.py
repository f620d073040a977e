"""The network whose ranks are chosen: published, or trained on the digits first."""

from __future__ import annotations

from pathlib import Path

import jax

import jaxcompress as jc
from experiments.common import data, published
from experiments.common.network import Network, untrained
from experiments.common.tuning import Tuning, trained
from experiments.ranks.settings import Config
from jaxcompress import models, parallel
from jaxcompress.knowledge.drawing import Views
from jaxcompress.processes import by_first

__all__ = ["prepare"]

TRAINING = Tuning(epochs=12, rate=0.1, distillation=0.0)


def prepare(config: Config, key: jax.Array) -> tuple[Network, data.Dataset, Views]:
    """Load the network, its data and its augmentation; train it first where it is the digits'.

    Raises:
        ValueError: if weights or data are not named, of another data set than the digits.
    """
    if config.weights is not None and config.data_dir is not None:
        files = config.network, config.weights, config.dataset, config.data_dir
        return *published.load(*files), Views()
    if config.dataset != "digits":
        raise ValueError(
            f"{config.network} on {config.dataset} needs trained weights and prepared data, but "
            "one is missing; pass --weights and --data-dir, or take the preset digits"
        )
    dataset, folder = data.load("digits"), config.workdir / "network"
    network = untrained(config.network, {"num_classes": dataset.num_classes})
    structure = folder / "structure.json"
    # As the first sees it: one that comes late may see what the others have just made.
    if not by_first("whether there is a network", structure.exists):
        _train(network, dataset, key, folder)
    _, variables = jc.load(folder)
    return network._replace(variables=variables), dataset, data.DIGITS_VIEWS


def _train(network: Network, dataset: data.Dataset, key: jax.Array, folder: Path) -> None:
    module = models.build(network.source[0], **network.source[1])
    run = trained(
        network.train_apply,
        models.initialize(module, key, data.image_shape(dataset).shape),
        dataset,
        TRAINING,
        views=data.DIGITS_VIEWS,
        key=key,
        mesh=parallel.mesh(),
    )
    variables = parallel.on_one_device(run.state.variables)
    jc.save(folder, jc.chain(), variables, network=network.source)
