"""Make any compression again from its spec."""

from __future__ import annotations

from collections.abc import Mapping

from jaxcompress.annotations import Json
from jaxcompress.compression.folding import from_spec as fold_from_spec
from jaxcompress.compression.record import Compression, chain
from jaxcompress.low_rank.factorizing import from_spec as factorize_from_spec
from jaxcompress.prune.rotation import from_spec as rotate_from_spec
from jaxcompress.prune.shrinking import from_spec as shrink_from_spec
from jaxcompress.quantization.quantizing import from_spec as quantize_from_spec
from jaxcompress.sparse.sparsifying import from_spec as sparsify_from_spec

__all__ = ["from_spec"]


def from_spec(spec: Mapping[str, Json]) -> Compression:
    """Make a compression from its `spec`, e.g. after a round trip through JSON.

    Raises:
        ValueError: if the kind is unknown.

    Example:
        >>> from_spec({"kind": "chain", "steps": []}).variables({"a": 1.0})
        {'a': 1.0}
    """
    kind = spec.get("kind")
    if kind == "chain":
        return chain(*(from_spec(step) for step in spec["steps"]))
    if kind == "shrink":
        return shrink_from_spec(spec)
    if kind == "fold":
        return fold_from_spec(spec)
    if kind == "rotate":
        return rotate_from_spec(spec)
    if kind == "factorize":
        return factorize_from_spec(spec)
    if kind == "sparsify":
        return sparsify_from_spec(spec)
    if kind == "quantize":
        return quantize_from_spec(spec)
    raise ValueError(
        "a spec is of kind 'chain', 'fold', 'rotate', 'shrink', 'factorize', 'sparsify' or "
        f"'quantize', but this is {kind!r}"
    )
