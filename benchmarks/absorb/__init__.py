"""What is gained by putting the constants of removed channels into the biases behind them.

    python -m benchmarks.absorb --data-dir .
    python -m benchmarks.absorb --data-dir . --which last --test-images 8000 \
        --output benchmarks/results/absorb_rest.json

Accuracy right after pruning, before any training, four times: `plain`; `absorb`, which puts means
of removed channels into the means of the BatchNorms behind them; `reestimate`, which takes
BatchNorm's statistics anew; and both. All see the same images without augmentation, and so does
`fisher`; `magnitude` sees none. Scores are those of `recipes`, groups inside blocks only.

CIFAR-10: 1,024 training images and the first 2,000 test images; on some of these, for ResNet-20,
the mean over all positions was compared with that of the interior before the former was chosen; the
second command takes the others. EfficientNet-Lite0: of 500 ImageNet images, probably training
images, 200 are used for statistics and scores, 300 are classified; its weights saw all of them.
Rows that the output file holds already stay, whatever code made them.
"""

from __future__ import annotations

__all__: list[str] = []
