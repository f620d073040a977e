"""Settings of the benchmark."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Config"]


@dataclass(frozen=True)
class Config:
    """What is exported and measured.

    Attributes:
        data_dir: folder with `weights` and `tensorflow_datasets`; that of JAXCOMPRESS_SHARED.
        output: the rows.
        rows: which of "pruned", "factorized", "sparse" and "vit".
        flops: what pruning and factorizing leave.
        sparsity: of the masks.
        batch_sizes: of the calls that are timed.
        test_images: that errors are taken over.
        repeats: rounds in which all runtimes take turns; the shortest time of each counts.
        seed: of the transformer's weights.
    """

    data_dir: Path = Path(os.environ.get("JAXCOMPRESS_SHARED", "."))
    output: Path = Path("benchmarks/results/exports.json")
    rows: tuple[str, ...] = ("pruned", "factorized", "sparse", "vit")
    flops: float = 0.5
    sparsity: float = 0.8
    batch_sizes: tuple[int, ...] = (1, 32)
    test_images: int = 64
    repeats: int = 50
    seed: int = 0
