"""What fixed knowledge is worth: every way to teach one pruned network, at equal epochs and seeds.

    python -m experiments.knowledge --data-dir tensorflow_datasets \\
        --weights resnet20_cifar10.safetensors

ResNet-20 on CIFAR-10 teaches the half of itself that learned gates leave. Written for a CPU: 2,048
training images, 8 epochs; `--train-images 0 --student-epochs 100` where there is an
accelerator. Each way and seed is a stage: interrupted, or run one by one with `--methods` and
`--seeds`, the experiment goes on where it was; `--only-finished` reports those that are done.
"""

from __future__ import annotations

__all__: list[str] = []
