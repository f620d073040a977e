"""Prune a trained network to a fraction of its FLOPs, shrink it, and measure every step.

    python -m experiments.prune --network resnet56 --weights resnet56_cifar10.safetensors \\
        --data-dir tensorflow_datasets --flops 0.5

Rows of the report: the dense network; shrunk; with BatchNorm statistics re-estimated on augmented
training images; and, with `--epochs`, fine-tuned by cross-entropy and distillation from the dense
network's stored logits.
"""

from __future__ import annotations

__all__: list[str] = []
