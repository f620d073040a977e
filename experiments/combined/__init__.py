"""Compress one network by every method alone and by every sensible order of them, at equal cost.

Channels (`prune`), two factors (`low_rank`) and single weights (`sparse`), alone and one after the
other, each to the same bytes on disk, and, where no weights are single, to the same FLOPs. Every
network is stored as int8; it is measured as it was saved and loaded again, right after its budget
is met and after a short lesson by the whole network's stored answers. How much of the way each
method of a sequence goes is chosen on training images that nothing else looks at. Masks come last
in every order: channels and factors would mix or remove what they had chosen.

    python -m experiments.combined resnet20 --weights resnet20_cifar10.safetensors \\
        --data-dir tensorflow_datasets

SlimNets (arXiv 1808.00496) reports that methods together reach what none reaches alone. The report
says, for every sequence and budget, what it gains over the best of its own parts; networks that
another one dominates are marked.
"""

from __future__ import annotations

__all__: list[str] = []
