"""Exported networks, each run by its own runtime: bytes, errors against JAX, latency.

    python -m benchmarks.exports --data-dir .

ResNet-20 with public weights, pruned, factorized and made sparse by simple scores, and a pruned
vision transformer with drawn weights, on CIFAR-10's test images. Each is exported as StableHLO,
ONNX and LiteRT; runtimes that are not installed (CONTRIBUTING.md says how) are left out. Errors are
the largest difference of a logit from the jitted function's, over the largest logit. Latencies are
the shortest of many calls, from NumPy to NumPy, all runtimes in turns.
"""

from __future__ import annotations
