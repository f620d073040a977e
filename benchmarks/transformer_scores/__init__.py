"""Which score tells best what a transformer misses least, right after pruning.

    python -m benchmarks.transformer_scores --weights-dir minilm --data-dir sts_benchmark

Nothing is trained afterwards. MiniLM-L6 (published weights) is judged by the rank correlation of
its similarities with people's on the STS benchmark's development set, a vision transformer of the
digits by its test accuracy. Each column cuts one thing (hidden widths of perceptrons, heads, the
residual width, all three, single branches, or whole layers of the scanned form) to a share of the
FLOPs, in which embeddings have no part; rows are scores. No score sees a label: those that need
data see a few sentences, or images, of the training set. The folder of weights is that of
`benchmarks.means_kept`; the other one holds `sts-dev.tsv` and `sts-train.tsv`.
"""

from __future__ import annotations
