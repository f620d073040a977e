"""What `experiments.knowledge` compares."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

from experiments.common.distill import Method
from experiments.common.student import Student

__all__ = ["Config"]


@dataclasses.dataclass(frozen=True)
class Config(Student):
    """What is compared.

    Attributes:
        methods: ways to teach.
        seeds: of the order of the examples and of the assistant.
        only_finished: run nothing more, and report the ways and seeds that are done.
        seed: of the teacher and of what is pruned.
    """

    network: str = "resnet20"
    features: str = "stage3_block2"
    before_features: str | None = "stage3_block1"
    flops: float = 0.5
    streams: bool = False
    student_epochs: int = 8
    train_images: int = 2048
    statistics_images: int = 2048
    batch_size: int = 64
    workdir: Path = Path("runs/knowledge_ablation")
    methods: tuple[Method, ...] = get_args(Method)
    seeds: tuple[int, ...] = (0, 1)
    only_finished: bool = False
