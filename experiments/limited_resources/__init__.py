"""Compress a network on limited resources: the teacher runs once, gates are learned, and fixed
knowledge teaches the pruned network through a synthetic teacher assistant.

    python -m experiments.limited_resources digits
    python -m experiments.limited_resources cifar10_resnet56 --data-dir tensorflow_datasets \\
        --weights resnet56_cifar10.safetensors
    python -m experiments.limited_resources imagenet_resnet50    # projected device-hours only

Stages: teacher, knowledge, gates, shrink, fine-tune. Interrupted, it goes on where it was. The
assistant is the crossed one, the best of those in `results/knowledge_ablation_cpu.json`. After
"Compressing Neural Networks on Limited Computing Resources" (IEEE Access 2025); of its method only
the abstract is public, and gates and assistant are our reconstruction.
"""

from __future__ import annotations

__all__: list[str] = []
