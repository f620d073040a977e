"""Many candidate networks at once: one compiled program that is never compiled again.

`candidate_losses` evaluates them, in chunks that fit into memory (`chunk_size`); `local_search`
perturbs the best scores and keeps what does better.
"""

from __future__ import annotations

from jaxcompress.prune.candidates.chunks import chunk_size
from jaxcompress.prune.candidates.local import Found, local_search
from jaxcompress.prune.candidates.losses import candidate_losses

__all__ = ["Found", "candidate_losses", "chunk_size", "local_search"]
