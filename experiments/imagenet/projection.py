"""What the whole compression takes on accelerators, reading included, beside the paper's hours."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
from rich.console import Console

from experiments.common import report
from experiments.common.projection import (
    COMPILE_HOURS,
    EXAMPLES,
    SCORE_COST,
    Pace,
    Work,
    stage_hours,
)
from experiments.imagenet.paces import Device, decoding_pace, described, measured
from experiments.imagenet.settings import Config

__all__ = ["project", "projected"]

PAPER_HOURS = 199
"""Of "Compressing Neural Networks on Limited Computing Resources", GPU and batch not named."""
TESTED = 50_000
EVALUATIONS = 3
RECORD_BYTES = 4
"""Of one of the largest logits: a float16 and a uint16; all others are one float16 more."""


class Projected(NamedTuple):
    """The hours of one device.

    Attributes:
        hours: by stage.
        lines: their arithmetic.
    """

    hours: dict[str, float]
    lines: list[str]


def project(config: Config, console: Console) -> list[report.Row]:
    """Print and report the device-hours, for chips that are described and one that is here.

    Raises:
        ValueError: if nothing is known of the network, and there is no accelerator to time it on.
    """
    devices = described() if config.network == "resnet50" else []
    if jax.default_backend() != "cpu":
        devices.append(measured(config))
    if not devices:
        raise ValueError(
            "compiled steps are known of resnet50, and others are timed on the accelerator here, "
            f"but network={config.network} and there is none; take resnet50, or a machine with one"
        )
    decoded, rows = decoding_pace(), []
    console.print(_knowledge_line(config))
    console.print(f"reading: {decoded:,.0f} images/s of one core, measured; {config.threads} cores")
    for device in devices:
        result = projected(config, device, decoded)
        console.print(f"\n{device.name}: {device.basis}", markup=False, soft_wrap=True)
        for line in result.lines:
            console.print(f"    {line}", markup=False, soft_wrap=True)
        extra = {f"{name}_device_hours": hours for name, hours in result.hours.items()}
        extra |= {f"{name}_images_per_second": pace for name, pace in device.pace._asdict().items()}
        facts = {**extra, "basis": device.basis, "decoded_per_core_second": decoded}
        rows.append(report.Row(device.name, extra=facts))
    settings = {**dataclasses.asdict(config), "paper_device_hours": PAPER_HOURS}
    path = report.write_report(config.workdir, "imagenet", settings, rows)
    console.print(f"\nreport: {path}")
    return rows


def projected(config: Config, device: Device, decoded: float) -> Projected:
    """Return the hours of one device and their arithmetic.

    Args:
        config: of epochs, views, scoring; `threads` cores decode for each device.
        device: its pace.
        decoded: images that one core decodes in a second.

    Example:
        >>> device = Device("chip", Pace(7_000.0, 2_000.0), "made up")
        >>> round(projected(Config(), device, 250.0).hours["fine-tune"], 1)
        17.8
    """
    pace = _limited(device.pace, config.threads * decoded)
    hours = stage_hours(_work(config), pace)
    hours["evaluation"] = EVALUATIONS * TESTED / pace.forward / 3600
    lines = _arithmetic(config, device.pace, decoded, hours)
    total, lesson = sum(hours.values()), device.pace.step / decoded
    lines += [
        f"all: {total:.1f} device-hours; the paper: {PAPER_HOURS} GPU hours",
        f"cores that keep the device busy: {device.pace.step:,.0f} / {decoded:,.0f} = {lesson:.1f} "
        f"in the lesson, {device.pace.forward / decoded:.1f} for knowledge",
    ]
    return Projected(hours, lines)


def _work(config: Config) -> Work:
    scoring = config.scoring
    count = scoring.rounds * scoring.masked_images + scoring.steps * scoring.examples
    return Work(config.stored_views, count, config.epochs)


def _arithmetic(config: Config, pace: Pace, decoded: float, hours: dict[str, float]) -> list[str]:
    work, read = _work(config), config.threads * decoded
    forward, step = (_least(on_device, read) for on_device in pace)
    scored = _limited(pace, read).step
    return [
        f"knowledge: {work.stored_views} views x {EXAMPLES:,} images / {forward} = "
        f"{hours['knowledge']:.2f} h",
        f"gates: {SCORE_COST} x {work.score_images:,} images / {scored:,.0f} images/s + "
        f"{COMPILE_HOURS} h of compiling = {hours['gates']:.2f} h",
        f"fine-tune: {work.epochs} epochs x {EXAMPLES:,} images / {step} = "
        f"{hours['fine-tune']:.2f} h",
        f"evaluation: {EVALUATIONS} x {TESTED:,} images / {forward} = {hours['evaluation']:.2f} h",
    ]


def _limited(pace: Pace, read: float) -> Pace:
    return Pace(min(pace.forward, read), min(pace.step, read))


def _least(on_device: float, read: float) -> str:
    return f"min({on_device:,.0f} on the device, {read:,.0f} read) images/s"


def _knowledge_line(config: Config) -> str:
    record = config.top_k * RECORD_BYTES + RECORD_BYTES // 2
    size = config.stored_views * EXAMPLES * record / 1e6
    return (
        f"knowledge: {config.stored_views} views x {EXAMPLES:,} images x ({config.top_k} logits x "
        f"{RECORD_BYTES} + {RECORD_BYTES // 2}) bytes = {size:,.0f} MB"
    )
