"""Compress a network for ImageNet: stored views, learned gates and a lesson, all streamed.

    python -m experiments.imagenet sample --data-dir imagenet_sample \\
        --weights efficientnet_lite0_imagenet.safetensors
    python -m experiments.imagenet resnet50 --data-dir tensorflow_datasets \\
        --weights resnet50_torchvision.safetensors
    python -m experiments.imagenet resnet50 --project

`sample` runs every stage on a few hundred images in minutes on a CPU; the others are the whole data
set at the budget of "Compressing Neural Networks on Limited Computing Resources" (IEEE Access
2025), 55.2 % of the FLOPs removed. Of its method only the abstract is public: epochs, rates and
views are ours. Stages: teacher, knowledge, gates, shrink, fine-tune, measure; interrupted, the run
goes on where it was, inside the lesson from its last checkpoint. `--project` runs nothing: it
prints what the whole would take on accelerators, from compiled programs' estimates, what is
measured here, and the images that one core decodes.
"""

from __future__ import annotations

__all__: list[str] = []
