"""Rotating a stream to its principal directions before its width is cut.

`rotating` is the front door. `planning` finds out which leaves turn, by following the stream
through the program (`following`, over `states`, `elementwise` and `structure`, into a `record`);
`turning` turns variables, `rewriting` runs functions of them, `rotated` is the compression of both,
and `principal` finds the directions.
"""

from __future__ import annotations

from jaxcompress.prune.rotation.rotated import from_spec
from jaxcompress.prune.rotation.rotating import Rotated, rotate

__all__ = ["Rotated", "from_spec", "rotate"]
