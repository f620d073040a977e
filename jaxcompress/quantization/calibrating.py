"""How large the inputs of each site are, from some batches: the ranges of static inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.backend import compiled
from jaxcompress.compression.observing import observe, over_uses
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph
from jaxcompress.graph.interpret import Node
from jaxcompress.quantization.checks import bits_by_path
from jaxcompress.quantization.codes import LEAST
from jaxcompress.quantization.library import coded_statically, dequantized

__all__ = ["input_ranges"]


def input_ranges(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    batches: Iterable[Batch],
    sites: Sequence[str] | None = None,
    candidates: int = 13,
) -> dict[str, np.ndarray]:
    """Return the largest |x| that each site's inputs are rounded to, `float32[scanned...]`.

    range = argmin over r of E (x - x_r)^2, x_r being x cut off at r and rounded to 255 levels, of
    as many r as there are candidates, evenly from the largest |x| down to `LEAST` of it.

    Args:
        graph: of `apply`.
        apply: evaluation function `(variables, inputs) -> outputs`.
        variables: its variables.
        batches: inputs of one shape; they are gone through twice, and kept in between.
        sites: those that `quantizable` names by default.
        candidates: 1: the largest |x|.

    Raises:
        ValueError: if a site cannot be quantized, there is no batch, or a number is not finite.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: x @ variables["a"]
        >>> variables, x = {"a": jnp.ones((2, 3))}, jnp.array([[3.0, 0.0], [0.0, -1.0]])
        >>> graph = trace(apply, variables, x)
        >>> {p: r.tolist() for p, r in input_ranges(graph, apply, variables, [x]).items()}
        {'a': 3.0}
    """
    require(candidates=integer(candidates))
    named = 8 if sites is None else dict.fromkeys(sites, 8)
    paths = list(bits_by_path(graph, named, ()))
    require_finite("variables", variables, "train or load them again")
    seen = list(batches)
    if not seen:
        raise ValueError("ranges are those of data, but there is no batch; pass at least one")
    sizes = compiled(lambda tree, inputs: _sizes(graph, apply, tree, inputs, paths))
    highest: dict[str, Any] = {}
    for inputs in seen:
        for path, size in jax.device_get(sizes(variables, inputs)).items():
            highest[path] = np.maximum(highest.get(path, 0.0), size)
    require_finite("ranges", highest, "look for NaN in the batches")
    shares = np.linspace(1.0, LEAST, candidates).astype(np.float32)
    if candidates == 1:
        return highest
    tried = {path: np.multiply.outer(shares, size) for path, size in highest.items()}
    errors = compiled(lambda tree, inputs, r: _errors(graph, apply, tree, inputs, r))
    total: dict[str, Any] = dict.fromkeys(paths, 0.0)
    for inputs in seen:
        for path, error in jax.device_get(errors(variables, inputs, tried)).items():
            total[path] = total[path] + np.asarray(error, np.float64)
    return {path: _least(tried[path], total[path]) for path in paths}


def _least(tried: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Take the range of least error, of each step of a scan: candidates come first."""
    chosen = errors.argmin(0)[None]
    return np.asarray(np.take_along_axis(tried, chosen, 0)[0], np.float32)


def _sizes(
    graph: Graph, apply: Function, variables: PyTree, inputs: PyTree, paths: Sequence[str]
) -> dict[str, Array]:
    sizes: dict[str, list[Any]] = {path: [] for path in paths}

    def look(path: str, node: Node, arrays: Sequence[Array], position: int) -> None:
        sizes[path].append(jnp.abs(arrays[1 - position].astype(jnp.float32)).max())

    observe(apply, variables, inputs, paths, look)
    return {path: over_uses(graph, path, each).max(0) for path, each in sizes.items()}


def _errors(
    graph: Graph, apply: Function, variables: PyTree, inputs: PyTree, tried: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the mean squared error of each candidate, `[candidates, scanned...]`."""
    seen: dict[str, list[Any]] = {path: [] for path in tried}

    def look(path: str, node: Node, arrays: Sequence[Array], position: int) -> None:
        # Of a scanned kernel each step is looked at once, in order.
        ranges = tried[path].reshape(len(tried[path]), -1)
        step = min(len(seen[path]), ranges.shape[1] - 1)
        x = arrays[1 - position].astype(jnp.float32)
        # A site that is given zeros alone has no error, at any scale.
        safe = jnp.maximum(ranges[:, step], jnp.finfo(jnp.float32).tiny * 2**20)
        error = lambda r: jnp.square(dequantized(*coded_statically(x, r)) - x).mean()  # noqa: E731
        seen[path].append(jax.lax.map(error, safe))

    observe(apply, variables, inputs, set(tried), look)
    return {
        path: jnp.moveaxis(over_uses(graph, path, each).sum(0), -1, 0)
        for path, each in seen.items()
    }
