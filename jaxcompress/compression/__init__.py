"""What every method shares: the record of a compression, and rewriting a function at its sites.

A `Compression` is a record of pure functions (smaller variables, a smaller function, a smaller
optimizer state) beside a JSON-able description of itself; `chain` puts several one after another.
`fold` stores the kernels that a function computes from its variables. `observe` runs a function in
the open and shows what its kernels are given.
"""

from __future__ import annotations

from jaxcompress.compression.folding import fold
from jaxcompress.compression.observing import observe
from jaxcompress.compression.optimizer_state import RestartedState
from jaxcompress.compression.record import Compression, chain

__all__ = ["Compression", "RestartedState", "chain", "fold", "observe"]
