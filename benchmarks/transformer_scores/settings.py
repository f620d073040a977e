"""Settings of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Config"]


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        weights_dir: folder of MiniLM-L6's weights and tokenizer.
        data_dir: folder of the STS benchmark.
        output: the rows.
        shares: of the FLOPs that stay.
        branches: how many of the branches, attention or perceptron, go.
        layers: how many layers go.
        pairs: how many of the development sentences are compared, the first ones.
        calibration: how many pairs of training sentences, or images, scores see.
        rounds: of Fisher scores, masks with 16 examples each.
        seeds: of random scores; the vision transformer is trained with the first.
    """

    weights_dir: Path
    data_dir: Path
    output: Path = Path("benchmarks/results/transformer_scores.json")
    shares: tuple[float, ...] = (0.9, 0.75)
    branches: tuple[int, ...] = (2, 4)
    layers: tuple[int, ...] = (1, 2)
    pairs: int = 750
    calibration: int = 256
    rounds: int = 16
    seeds: tuple[int, ...] = (0,)
