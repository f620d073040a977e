"""Settings that do not fit together, refused before anything is computed."""

from __future__ import annotations

from pathlib import Path

from experiments.common.accumulating import split_problem
from experiments.common.streaming.images import Images
from experiments.imagenet.settings import Config
from jaxcompress import models, parallel

__all__ = ["check", "check_files"]


def check_files(config: Config) -> None:
    """Raise unless weights and data are named and there.

    Raises:
        ValueError: naming all that is missing.
    """
    problems = [
        f"{name}: {_told(path)}; pass {what}"
        for name, path, what in (
            ("weights", config.weights, "published ones as safetensors, or an artifact's folder"),
            ("data_dir", config.data_dir, "TFDS's folder, or one of images by class"),
        )
        if path is None or not path.exists()
    ]
    if config.network not in models.NETWORKS:
        problems.append(
            f"network: no network is called {config.network!r}; take one of "
            f"{', '.join(models.NETWORKS)}"
        )
    _refuse(problems)


def _told(path: Path | None) -> str:
    return "nothing is named" if path is None else f"{path} is not there"


def check(config: Config, train: Images) -> None:
    """Raise unless batches, views and classes fit the images and each other.

    Raises:
        ValueError: naming every setting that does not fit.
    """
    devices, count = parallel.mesh().size, len(train)
    problems = []
    split = split_problem(config.batch_size, config.accumulate_steps, devices)
    if split:
        problems.append(split)
    looked = {
        "batch_size": config.batch_size,
        "scoring.masked_images": config.scoring.masked_images,
        "scoring.examples": config.scoring.examples,
        "scoring.statistics_images": min(config.scoring.statistics_images, config.batch_size),
    }
    problems += [
        f"{name}={number} images are taken at once, but there are {count}; lower it, or raise "
        "train_images"
        for name, number in looked.items()
        if number > count
    ]
    if config.top_k >= train.num_classes:
        problems.append(
            f"top_k={config.top_k} leaves some of {train.num_classes} classes out; lower it"
        )
    if config.distillation <= 0:
        problems.append("distillation=0 asks for nothing of what is stored; raise it")
    channels = {len(config.mean), len(config.std)}
    if channels - {1, 3}:
        problems.append(f"mean and std are of 3 channels, or of all, but of {sorted(channels)}")
    _refuse(problems)


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ValueError("these settings do not fit together:\n- " + "\n- ".join(problems))
