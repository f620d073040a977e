"""Which channels stay: what the first of several processes has chosen, in all of them.

Each scores channels on a device of its own. Where machines differ in the last bits, so may what
they choose, and networks of other shapes could not be trained together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.processes import by_first

__all__ = ["of_first"]


def of_first(keep: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Return which channels stay, as the first process says.

    Args:
        keep: what this process has chosen, `bool[width]` of each group.

    Example:
        >>> of_first({"params/conv/kernel[3]": np.array([True, False])})
        {'params/conv/kernel[3]': array([ True, False])}
    """
    plain = {group: np.asarray(kept).tolist() for group, kept in keep.items()}
    said = by_first("which channels stay", lambda: plain)
    return {group: np.asarray(kept, bool) for group, kept in said.items()}
