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
        shares: of the residual width that stay.
        pairs: how many of the sentences are compared, the first ones; the whole network also
            compares all.
        seeds: of the networks that are trained.
    """

    weights_dir: Path
    data_dir: Path
    output: Path = Path("benchmarks/results/means_kept.json")
    shares: tuple[float, ...] = (0.95, 0.9, 0.75, 0.5)
    pairs: int = 750
    seeds: tuple[int, ...] = (0, 1)
