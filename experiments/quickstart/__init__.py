"""Compress a network end to end, on data that needs no download.

Trains a ResNet-20 teacher on scikit-learn's handwritten digits, records its logits, removes half of
its FLOPs, shrinks it for good, fine-tunes the student with the recorded logits, saves it, and
checks in a fresh process that the loaded student answers the same.

    python -m experiments.quickstart

The last lines say where `report.json`, the picture and the page are.
"""

from __future__ import annotations

__all__: list[str] = []
