"""Throughput against PyTorch: training, evaluation, fine-tuning with knowledge, and latency.

From the root of a clone, with PyTorch installed beside JAX
(`pip install --editable ".[experiments,bench]"`):

    python -m benchmarks.throughput --quick            # ResNet-20, 3 minutes on 2 cores
    python -m benchmarks.throughput                    # all networks
    python -m benchmarks.throughput --device gpu

Each framework runs in a process of its own, on the same cores, from the same files (weights,
images, labels, stored logits), and they take turns: ours, PyTorch, ours, PyTorch. Before anything
is timed PyTorch's logits must agree with ours, and ours with fast convolutions with those without,
to 1e-4 of the largest logit. The first call of each variant, compilation included, is reported
apart; a variant that cannot run is a row with its reason. Rates are medians over all timed steps;
the spread is half of the range between the quartiles, relative to the median; the ratio is our rate
over that of the best PyTorch variant of the same run. Writes
`benchmarks/results/throughput_<device>.json` after every case; `--resume` keeps the cases that the
file already has.
"""

from __future__ import annotations

__all__: list[str] = []
