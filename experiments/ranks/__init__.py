"""Choose the ranks of a whole network under FLOPs budgets, by many methods, and compare them.

    python -m experiments.ranks digits
    python -m experiments.ranks resnet56 --weights resnet56_cifar10.safetensors \\
        --data-dir tensorflow_datasets

Everything is chosen on training images. Each method's ranks are judged with factors made in several
ways (`--factors`), as they are and with BatchNorm statistics re-estimated on augmented
images. The last rows are really factorized, saved, and, with `--tuning.epochs`, fine-tuned. Run
again with the same settings, it goes on where it was interrupted.
"""

from __future__ import annotations

__all__: list[str] = []
