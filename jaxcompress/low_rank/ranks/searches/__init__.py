"""The rank searches, one file each: `search(sites, budget, *, ...) -> {site: rank or None}`.

They are exported by `jaxcompress.low_rank.ranks` alone; `fitting` holds what they share.
"""

from __future__ import annotations

__all__ = ()
