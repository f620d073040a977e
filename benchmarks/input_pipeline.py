"""How many images one core of a host reads, decodes and crops in a second.

    python -m benchmarks.input_pipeline --data-dir imagenet_sample

Photographs are made up, of about the pixels and bytes that ImageNet's training images have on
average (500 x 375, 108 kB: 138 GB by 1,281,167 images); with `data_dir`, a folder of images by
class, those are read as well. Rows are training (random crops of 224 pixels) and evaluation (the
middle), through Grain on one core, and to compare with, whole images decoded by Pillow alone. Where
others share the core, seconds of the processor tell more than those of the clock. Writes
`benchmarks/results/input_pipeline.json`.
"""

from __future__ import annotations

import dataclasses
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.cores import limit_cores
from experiments.common.command import Command
from experiments.common.environment import describe
from experiments.common.streaming import batches
from experiments.common.streaming.crops import Crop
from experiments.common.streaming.images import Images, splits_of
from experiments.common.streaming.orders import Shuffled
from experiments.common.timing import Stopwatch
from jaxcompress.annotations import Json
from jaxcompress.files import write_json

__all__ = ["COMMAND", "main"]

MADE_UP, WIDTH, HEIGHT, QUALITY = 64, 500, 375, 93


@dataclasses.dataclass(frozen=True)
class Config:
    """What is read.

    Attributes:
        data_dir: a folder of images by class that are read besides those made up; None for these.
        image_size: height and width of a crop.
        batch_size: images of a batch.
        repeats: passes over the images, of which the fastest counts: others share the cores.
        output: the JSON file.
    """

    data_dir: Path | None = None
    image_size: int = 224
    batch_size: int = 32
    repeats: int = 3
    output: Path = Path("benchmarks/results/input_pipeline.json")


def main(config: Config) -> None:
    """Measure on one core."""
    limit_cores(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = rows_of("made up", made_up(Path(folder)), config)
    if config.data_dir is not None:
        rows += rows_of(config.data_dir.name, config.data_dir, config)
    write_json(config.output, {"environment": describe(), "cores": 1, "rows": rows})


def rows_of(name: str, folder: Path, config: Config) -> list[dict[str, Json]]:
    """Measure every way to read one folder."""
    images, _ = splits_of("folder", folder, test_share=0.01)
    facts = {"images": name, "count": len(images), **sizes(images)}
    return [facts | row(reader, read, images, config) for reader, read in READERS.items()]


def row(
    name: str, read: Callable[[Images, Config], int], images: Images, config: Config
) -> dict[str, Json]:
    """Time one way to read all images, the fastest of some passes."""
    seconds = []
    for _ in range(config.repeats):
        watch, busy = Stopwatch(), Stopwatch(time.process_time)
        count = read(images, config)
        seconds.append((watch.seconds, busy.seconds))
    fastest, least = (min(times) for times in zip(*seconds, strict=True))
    measured = {
        "reader": name,
        "images_per_second": count / fastest,
        "images_per_cpu_second": count / least,
    }
    print(measured, flush=True)
    return measured


def training(images: Images, config: Config) -> int:
    """Read one epoch of random crops."""
    order = Shuffled(len(images), min(config.batch_size, len(images)), epochs=1, seed=0)
    stream = batches.training(
        images, order, Crop(config.image_size), reading=batches.Reading(threads=1)
    )
    return sum(len(batch["label"]) for batch in stream)


def evaluation(images: Images, config: Config) -> int:
    """Read the middle of all images."""
    size = min(config.batch_size, len(images))
    reading = batches.Reading(threads=1)
    stream = batches.evaluation(images, size, config.image_size, reading=reading)
    return sum(len(batch["label"]) for batch in stream)


def decoding(images: Images, config: Config) -> int:
    """Decode whole images and keep nothing."""
    del config
    for number in range(len(images)):
        with Image.open(io.BytesIO(images[number].data)) as image:
            image.convert("RGB")
    return len(images)


READERS: dict[str, Callable[[Images, Config], int]] = {
    "training crops": training,
    "evaluation": evaluation,
    "decoding whole images": decoding,
}


def made_up(folder: Path) -> Path:
    """Write JPEGs that take as long to decode as photographs: smooth noise, in two classes."""
    random = np.random.default_rng(0)
    for number in range(MADE_UP):
        inside = folder / f"class{number % 2}"
        inside.mkdir(exist_ok=True)
        coarse = random.integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3), np.uint8)
        image = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        image.save(inside / f"{number}.jpg", quality=QUALITY)
    return folder


def sizes(images: Images) -> dict[str, Json]:
    """Return the mean bytes and pixels of the images."""
    encoded = [images[number].data for number in range(len(images))]
    pixels = [np.prod(Image.open(io.BytesIO(data)).size) for data in encoded]
    return {
        "mean_bytes": float(np.mean([len(data) for data in encoded])),
        "mean_pixels": float(np.mean(pixels)),
    }


COMMAND = Command("benchmarks.input_pipeline", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
