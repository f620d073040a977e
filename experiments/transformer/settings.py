"""What `experiments.transformer` compresses, and its presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

__all__ = ["PRESETS", "Config", "Learning", "Scoring", "Way"]

Way = Literal[
    "whole",
    "magnitude",
    "activations",
    "prune",
    "residual",
    "low_rank",
    "both",
    "sparse",
    "torch_pruning",
]
"""whole: as it is, for what learning on is worth; magnitude: heads and perceptrons by norms of
kernels; activations: the same by what they give; prune: the same by learned gates; residual: the
residual stream too; low_rank: kernels in two factors; both: half of the way by `prune`, the rest by
`low_rank`; sparse: single weights, as many as the budget has left of them; torch_pruning: heads and
perceptrons of MiniLM, by Torch-Pruning's norms."""


@dataclasses.dataclass(frozen=True)
class Learning:
    """How a network is trained.

    Attributes:
        steps: how many.
        batch_size: sequences per step.
        rate: highest learning rate of AdamW; it rises over a tenth of the steps, and falls to 0.
    """

    steps: int
    batch_size: int
    rate: float


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How channels are scored where gates are learned; see `jaxcompress.recipes`.

    Attributes:
        rounds: random masks that Fisher information is taken at.
        steps: of the gates.
        examples: of each round and each step.
    """

    rounds: int
    steps: int
    examples: int


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compressed, and how.

    Attributes:
        task: a decoder trained here on Python's sources, or a published encoder of sentences.
        ways: each makes a network of its own.
        kind: of cost that the budget limits.
        budgets: shares of it that may be left.
        scoring: how channels are scored.
        training: how the decoder is trained.
        recovery: how a compressed network is taught.
        length: tokens of a sequence.
        looked_at: sequences that decisions are made from.
        weights_dir: of the published encoder.
        data_dir: of the STS benchmark.
        workdir: where everything is written.
        seed: of everything random.
    """

    task: Literal["language", "sentences"] = "language"
    ways: tuple[Way, ...] = ("prune", "whole")
    kind: Literal["flops", "params"] = "params"
    budgets: tuple[float, ...] = (0.7,)
    scoring: Scoring = Scoring(rounds=8, steps=12, examples=16)
    training: Learning = Learning(steps=400, batch_size=32, rate=5e-3)
    recovery: Learning = Learning(steps=150, batch_size=32, rate=2e-3)
    length: int = 64
    looked_at: int = 1024
    weights_dir: Path = Path("weights")
    data_dir: Path = Path("sts_benchmark")
    workdir: Path = Path("runs/transformer")
    seed: int = 0


PRESETS: Mapping[str, tuple[str, Config]] = MappingProxyType(
    {
        "language": ("a decoder trained here, at 70 % of its parameters", Config()),
        "minilm": (
            "MiniLM-L6 at half of its FLOPs, by every method",
            Config(
                task="sentences",
                ways=(
                    "low_rank",
                    "magnitude",
                    "activations",
                    "prune",
                    "both",
                    "residual",
                    "sparse",
                ),
                kind="flops",
                budgets=(0.5,),
                scoring=Scoring(rounds=16, steps=60, examples=64),
                recovery=Learning(steps=300, batch_size=32, rate=3e-4),
                length=32,
            ),
        ),
    }
)
