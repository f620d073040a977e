"""What `experiments.compress` does, by default in a minute."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

__all__ = ["STRUCTURAL", "Config", "Export", "Scoring", "Stage"]

Stage = Literal["prune", "low_rank", "sparse", "quantize", "distil"]
"""prune: channels go; low_rank: kernels in two factors; sparse: single weights become zero;
quantize: kernels, and what they are given, become integers, after all that removes; distil: what is
left, rounded where integers are, learns from the whole network's stored answers, and labels if
there are any."""

STRUCTURAL: tuple[Stage, ...] = ("prune", "low_rank")
"""Those that share the budget: what is left has fewer channels or ranks."""

Export = Literal["stablehlo", "onnx", "litert"]
"""stablehlo: inside the artifact, which is then loaded without the model's code; onnx, litert:
files beside it, whose writers and runtimes are in `requirements-exports.txt`."""


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How much is looked at; see `jaxcompress.recipes`.

    Attributes:
        rounds: random masks at which channels are scored first.
        steps: by which gates are learned from there; 0 for the first scores alone.
        examples: of each step.
        looked_at: examples that ranks and zeros are chosen from.
    """

    rounds: int = 32
    steps: int = 120
    examples: int = 128
    looked_at: int = 1024


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compressed, and how.

    Attributes:
        model: a function `module:function` or `file.py:function`, or a shipped network's name.
        data: `digits`, a folder of images by class, an `.npz`, a TFDS name, or a function.
        budget: the shares that may be left, e.g. `flops=0.5 bytes=0.1`; of flops, params, bytes,
            latency.
        stages: in the order in which they are done; prune and low_rank share the budget.
        protect: patterns of leaf paths, e.g. `*/head/*`: no stage takes from kernels that fit one,
            and channels on their axes stay.
        latency_table: what each conv and dot takes on another device, as JSON; without it, a budget
            of latency is met by what they take here, which is measured first.
        weights: of a shipped network: published ones as safetensors, or an artifact's folder;
            without them it is trained first.
        data_dir: where TFDS has prepared its data; by default where TFDS keeps them.
        epochs: passes over the training data while the compressed network learns.
        teacher_epochs: while a shipped network without weights is trained.
        optimizer: AdamW or SGD with momentum, the rate falling to zero as a cosine.
        rate: highest learning rate of both.
        batch_size: examples per step.
        scoring: how much is looked at.
        sparsity: share of the kernels' weights that the stage sparse sets to zero; 0 for as many as
            the budget of bytes asks for.
        bits: of the kernels that the stage quantize leaves.
        activations: what it does to the kernels' inputs: rounds them to 8 bits by ranges that were
            found before (static) or by their own (dynamic), or nothing (float).
        outputs: what the network returns: logits of classes, or any values; auto: classes where it
            is one row of two or more numbers.
        num_classes: of a shipped network; 0 for those of the labels.
        image_size: height and width that a folder's images are brought to; 0 for that of the
            model's example, or what most of them have.
        mean: of each channel of pixels scaled to 0..1; by default 0, and for a shipped network what
            its weights expect.
        std: likewise, by default 1.
        channels: where the model wants them; auto: as the data have them, or first where only that
            fits, as for PyTorch's and Equinox' convolutions.
        labels: what they are for: learning and judging, or judging on the test examples alone.
        test_share: share of the examples that is tested on, where the data have no test part.
        train_images: how many; 0 for all.
        test_images: how many; 0 for all.
        exports: programs that are written too, each run and compared with the network.
        workdir: where the report, the artifact and what is needed to go on are written.
        seed: of everything random.
    """

    model: str = "resnet8"
    data: str = "digits"
    budget: tuple[str, ...] = ("flops=0.5",)
    stages: tuple[Stage, ...] = ("prune", "distil")
    protect: tuple[str, ...] = ()
    latency_table: Path | None = None
    weights: Path | None = None
    data_dir: Path | None = None
    epochs: int = 10
    teacher_epochs: int = 20
    optimizer: Literal["adamw", "sgd"] = "adamw"
    rate: float = 2e-3
    batch_size: int = 128
    scoring: Scoring = Scoring()
    sparsity: float = 0.0
    bits: Literal[8, 4] = 8
    activations: Literal["static", "dynamic", "float"] = "static"
    outputs: Literal["auto", "classes", "values"] = "auto"
    num_classes: int = 0
    image_size: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: Literal["auto", "last", "first"] = "auto"
    labels: Literal["both", "test"] = "both"
    test_share: float = 0.1
    train_images: int = 0
    test_images: int = 0
    exports: tuple[Export, ...] = ("stablehlo",)
    workdir: Path = Path("runs/compress")
    seed: int = 0
