"""Programs compiled ahead of time for TPUs that are described, not there.

    TPU_SKIP_MDS_QUERY=1 JAX_PLATFORMS=cpu python -m benchmarks.tpu_aot --topologies v5e:1x1

needs the extra `tpu-aot` (libtpu). XLA compiles every row of `steps.py` for one topology, and its
text says what it expects: cycles of every operation, memory, collectives, loops. Nothing is run, so
cycles are the compiler's estimate, for which it chooses layouts and tilings; they are no measured
time. Rows that do not compile say why. Writes `benchmarks/results/tpu_aot.json`, row by row: a row
that is there for the same topology is not compiled again.
"""

from __future__ import annotations
