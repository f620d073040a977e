"""`quantize`: from a trained network and some batches to integers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxcompress import quantization
from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.compression import Compression
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph, trace
from jaxcompress.quantization.checks import Bits, bits_by_path, check_tiles
from jaxcompress.quantization.library import require_qwix
from jaxcompress.quantization.quantizing import Activations
from jaxcompress.recipes.examples import Inputs, cut, gather, inputs_of, one_example, opened
from jaxcompress.training import reestimate

__all__ = ["Quantized", "quantize"]

SIZE = 128
"""How many examples are looked at together."""


class Quantized(NamedTuple):
    """A network in integers.

    Attributes:
        compression: `.function(apply)` runs on codes, `.variables` makes them from any variables,
            with the ranges that were found; `jc.quantization.fake_quantized` trains it.
        variables: the codes and scales, with BatchNorm re-estimated.
    """

    compression: Compression
    variables: PyTree


def quantize(
    apply: Callable[[PyTree, Batch], Array],
    variables: PyTree,
    batches: Iterable[Batch],
    *,
    bits: Bits = 8,
    activations: Activations = "static",
    protect: Sequence[str] = (),
    tile: int | None = None,
    candidates: int = 1,
    train_apply: Function | None = None,
    examples: int = 512,
    inputs: Inputs = inputs_of,
    graph: Graph | None = None,
) -> Quantized:
    """Put integers in the place of all kernels, and of what they are given, at once; no labels.

    w ~ s q and x ~ t p, with the scales s of each output from its largest weight, and t of each
    site by the least squared error over the examples: see `jc.quantize` and
    `jc.quantization.input_ranges`. It comes after channels, ranks and weights were removed, and
    chains behind them.

    Args:
        apply: `apply(variables, inputs) -> outputs`, in evaluation mode.
        variables: of the trained network.
        batches: an iterable of batches, see `recipes.prune`.
        bits: of kernels, 8 or 4, of all or by path.
        activations: "static", "dynamic", or "float" for kernels alone.
        protect: patterns of kernels that stay as they are.
        tile: how many inputs of a dot share a scale.
        candidates: of the end of each range of weights.
        train_apply: `train_apply(variables, inputs, key) -> (outputs, state)`, in training mode:
            with it BatchNorm is re-estimated on the examples.
        examples: how many are looked at.
        inputs: what of a batch the network is given; its `image`, or the batch itself.
        graph: of the network.

    Returns:
        The compression and its variables.

    Raises:
        ImportError: without qwix, the extra `quantize`.
        ValueError: if batches are empty or unlike, or `jc.quantize` refuses a site.
        TypeError: if batches is one batch.

    Example:
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> first, second, third = jax.random.split(jax.random.key(0), 3)
        >>> variables = {
        ...     "a": jax.random.normal(first, (16, 16)),
        ...     "b": jax.random.normal(second, (16, 4)),
        ... }
        >>> x = jax.random.normal(third, (64, 16))
        >>> result = quantize(apply, variables, [x])
        >>> outputs = result.compression.function(apply)(result.variables, x)
        >>> outputs.shape, result.variables["a"]["codes"].dtype.name
        ((64, 4), 'int8')
    """
    require(
        tile=integer(tile, optional=True),
        candidates=integer(candidates),
        examples=integer(examples),
    )
    require_qwix()
    require_finite("variables", variables, "train or load them again")
    first, every = opened(batches)
    graph = trace(apply, variables, one_example(inputs(first))) if graph is None else graph
    # All that can be refused is refused before data are looked at.
    known = bits_by_path(graph, bits, protect)
    check_tiles(graph, list(known), tile)
    seen = [inputs(batch) for batch in cut(gather(every, examples), SIZE)]
    ranges = None
    if activations == "static":
        ranges = quantization.input_ranges(graph, apply, variables, seen, list(known))
    compression = quantization.quantize(
        graph, known, activations=activations, ranges=ranges, tile=tile, candidates=candidates
    )
    small = compression.variables(variables)
    if train_apply is not None:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen)
        train = compression.function(train_apply)
        small = reestimate(train, small, stacked, key=jax.random.key(0))
    return Quantized(compression, small)
