"""What the quickstart does, by default in a minute."""

from __future__ import annotations

import dataclasses
from pathlib import Path

__all__ = ["Config"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What the quickstart does.

    Attributes:
        workdir: where the report, its page, the picture and the artifacts go.
        flops: largest fraction of the teacher's FLOPs that the student may use.
        teacher_epochs: passes over the 1,437 training images.
        student_epochs: passes while fine-tuning.
        batch_size: images per step.
        temperature: of the distillation.
        seed: of everything random.
    """

    workdir: Path = Path("runs/quickstart")
    flops: float = 0.5
    teacher_epochs: int = 20
    student_epochs: int = 10
    batch_size: int = 128
    temperature: float = 4.0
    seed: int = 0
