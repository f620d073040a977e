"""ImageNet: every stage on a sample, how fast images come, and device-hours that are projected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docs.markdown import command, load, percent, source, table
from experiments.imagenet.paces import decoding_pace, described
from experiments.imagenet.projection import PAPER_HOURS, projected
from experiments.imagenet.settings import PRESETS

__all__ = ["page"]

SAMPLE = "experiments/results/imagenet_sample_cpu.json"
COMMANDS = (
    "experiments/results/compress_efficientnet_lite0_80.json",
    "experiments/results/compress_efficientnet_lite0_60.json",
)
READING = "benchmarks/results/input_pipeline.json"
INTRODUCTION = """No run on all of ImageNet was made: there was no accelerator. What follows is
every stage of it on 500 images, the rate at which images are read, and what the compiler expects
of the rest."""
SAMPLED = """`experiments.imagenet sample`: EfficientNet-Lite0 with its public weights, {flops} of
the FLOPs by learned gates on expanded widths, kernels compensated, BatchNorm renewed; then a lesson
of {epochs} passes, at a rate of {rate}, by the 16 largest logits of two views. One half of the
images of a folder (ImageNet's training set) is looked at, the other {count} are tested on: one is
0.4 %."""
COMPRESSED = """`experiments.compress`, the command for networks of one's own: the same network, no
labels but to judge by, no training; gates of expanded widths learned in 60 steps of 32 images.
Goals were 83 % at 80 % of the FLOPs, and 70 % at 60 %: both are missed."""
PROJECTED = """ResNet-50 in bfloat16, {share} of the FLOPs, 100 epochs, two views. v5e: XLA's
cycles at the chip's clock; others: the share of their peaks that the v5e reaches by that estimate,
which is a hope. {threads} cores read for each device, at {decoded:.0f} images a second of each."""


def page() -> str:
    """Return the page."""
    sample, reading = load(SAMPLE), load(READING)
    config = sample["config"]
    count = sample["rows"][0]["count"]
    sampled = SAMPLED.format(
        flops=percent(config["flops"], 0),
        epochs=config["epochs"],
        rate=config["rate"],
        count=count,
    )
    return "\n\n".join(
        [
            "# ImageNet",
            INTRODUCTION,
            "## Every stage on a sample",
            sampled,
            _sample(sample["rows"]),
            source(SAMPLE),
            command(
                "python -m experiments.imagenet sample --data-dir imagenet_sample",
                f"--weights efficientnet_lite0_imagenet.safetensors --rate {config['rate']}",
            ),
            "## One command, 250 images, no labels",
            *_compressed(),
            "## How fast images are read",
            _reading(reading["rows"]),
            source(READING),
            command("python -m benchmarks.input_pipeline"),
            "## Device-hours of the whole compression",
            _projected(),
            command("python -m experiments.imagenet resnet50 --project"),
        ]
    )


def _compressed() -> list[str]:
    results = {path: load(path) for path in COMMANDS}
    rows = [
        [
            percent(last["flops"] / whole["flops"], 1),
            percent(last["accuracy"], 1),
            percent(whole["accuracy"], 1),
            percent(last["agreement"], 1),
        ]
        for whole, last in ((known["rows"][0], known["rows"][-1]) for known in results.values())
    ]
    shown = command(
        "python -m experiments.compress --model efficientnet_lite0 --data imagenet_sample",
        "--weights efficientnet_lite0_imagenet.safetensors --image-size 224 --num-classes 1000",
        "--labels test --test-share 0.5 --budget flops=0.8 --stages prune --batch-size 25",
        "--scoring.rounds 16 --scoring.steps 60 --scoring.examples 32",
        "--protect '*/project_bn/*' '*/head_bn/*' --exports",
    )
    head = ["of the FLOPs", "accuracy", "whole", "answers as the whole network does"]
    return [COMPRESSED, table(head, rows), *map(source, COMMANDS), shown]


def _sample(rows: list[Mapping[str, Any]]) -> str:
    whole = rows[0]["flops"]
    return table(
        ["network", "accuracy", "of the FLOPs", "parameters", "seconds"],
        [
            [
                row["name"],
                percent(row["accuracy"], 1),
                percent(row["flops"] / whole, 1),
                f"{row['num_params']:,}",
                f"{row['seconds']:.0f}",
            ]
            for row in rows
        ],
    )


def _reading(rows: list[Mapping[str, Any]]) -> str:
    return table(
        ["images", "mean bytes", "what is done", "images a second", "and a processor second"],
        [
            [
                row["images"],
                f"{row['mean_bytes']:,.0f}",
                row["reader"],
                f"{row['images_per_second']:.0f}",
                f"{row['images_per_cpu_second']:.0f}",
            ]
            for row in rows
        ],
    )


def _projected() -> str:
    config, decoded = PRESETS["resnet50"][1], decoding_pace()
    devices = {device.name: projected(config, device, decoded).hours for device in described()}
    stages = list(next(iter(devices.values())))
    text = PROJECTED.format(share=percent(config.flops, 1), threads=config.threads, decoded=decoded)
    rows = [
        [name, *(f"{hours[stage]:.2f}" for stage in stages), f"{sum(hours.values()):.1f}"]
        for name, hours in devices.items()
    ]
    hours = f"The paper reports {PAPER_HOURS} GPU hours, GPU and batch not named."
    return "\n\n".join([text, table(["device", *stages, "all, hours"], rows), hours])
