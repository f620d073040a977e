"""What `benchmarks.throughput` measures."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Literal, get_args

from jaxcompress.annotations import Json

__all__ = ["Config", "cases"]

Name = Literal["resnet20", "resnet56", "vgg16", "resnet50"]
Task = Literal["train", "eval", "stored", "live"]
LATENCY_BATCHES = (1, 32, 256)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        networks: of 32x32 images, resnet50 of 224x224.
        tasks: train, eval, stored (fine-tuning with stored logits), live (with a teacher running).
        latency: of evaluation at these batch sizes too, dense and half.
        batch_size: images per step; ResNet-50 takes `large_batch_size`.
        large_batch_size: images per step of ResNet-50.
        rounds: how often the frameworks take turns.
        steps: timed steps of each variant per turn.
        seconds: a turn of a variant takes about this long at most, and one step at least.
        threads: cores for either framework; 0 for all.
        device: cpu or gpu.
        compile: whether PyTorch's `torch.compile` variants run.
        bfloat16: whether variants in that type run, which processors without AVX-512 emulate.
        python: the interpreter that has PyTorch; default this one.
        quick: ResNet-20, training and evaluation, without `torch.compile`.
        resume: keep the cases that the output file already has.
        output: the JSON file; default by the device's name.
    """

    networks: tuple[Name, ...] = get_args(Name)
    tasks: tuple[Task, ...] = get_args(Task)
    latency: tuple[int, ...] = LATENCY_BATCHES
    batch_size: int = 128
    large_batch_size: int = 16
    rounds: int = 5
    steps: int = 10
    seconds: float = 2.0
    threads: int = 0
    device: Literal["cpu", "gpu"] = "cpu"
    compile: bool = True
    bfloat16: bool = True
    python: str = sys.executable
    quick: bool = False
    resume: bool = False
    output: Path | None = None


def cases(config: Config) -> list[dict[str, Json]]:
    """List what is measured, each as the fields of `benchmarks.throughput.cases.Case`.

    Example:
        >>> [case["task"] for case in cases(Config(networks=("resnet20",), latency=()))]
        ['train', 'eval', 'train', 'eval', 'stored', 'live']
    """
    listed = []
    for name in config.networks:
        batch = config.large_batch_size if name == "resnet50" else config.batch_size
        for half in (False, True):
            # The dense network is the teacher: only a shrunk one is fine-tuned.
            tasks = [t for t in config.tasks if half or t in ("train", "eval")]
            todo = [(task, batch) for task in tasks] + [("eval", b) for b in config.latency]
            for task, size in dict.fromkeys(todo):
                listed.append({"name": name, "half": half, "task": task, "batch": size})
    return listed
