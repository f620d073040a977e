"""Settings of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Config"]


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        output: the rows.
        shares: of the residual width that stay.
        steps: that language models are trained for.
        epochs: that the vision transformer is trained for.
        calibration: batches of 32 that scores are from.
        seed: of what is drawn.
        networks: which of them.
    """

    output: Path = Path("benchmarks/results/rotation.json")
    shares: tuple[float, ...] = (0.9, 0.75, 0.5)
    steps: int = 600
    epochs: int = 60
    calibration: int = 16
    seed: int = 0
    networks: tuple[Literal["decoder", "gpt2", "vit"], ...] = ("decoder", "gpt2", "vit")
