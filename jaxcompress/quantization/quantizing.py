"""`quantize`: integers and scales in the place of kernels, in variables and functions.

The leaf `kernel` becomes the subtree `kernel/codes`, `kernel/scales`; bias, normalisation and
nonlinearity stay as they were, in floats.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcompress.annotations import Array, Function, Json, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.compression.record import Compression
from jaxcompress.compression.standing_in import run_standing_in
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph
from jaxcompress.graph.internals import abstract
from jaxcompress.paths import flatten_with_paths
from jaxcompress.quantization.checks import (
    Bits,
    bits_by_path,
    check_kernels,
    check_ranges,
    check_tiles,
)
from jaxcompress.quantization.codes import (
    code_shapes,
    kernel_shape,
    packed,
    rounded,
    scanned_axes,
    unpacked,
)
from jaxcompress.quantization.library import require_qwix
from jaxcompress.quantization.running import Codes, contract_codes

__all__ = ["CODES", "Activations", "from_spec", "largest_of", "on_codes", "quantize", "to_codes"]

CODES = ("codes", "scales")
"""The names of the two leaves that stand for a kernel."""

Activations = Literal["float", "dynamic", "static"]
"""float: what sites are given stays as it is; dynamic: each row or example is rounded to 8 bits by
its own largest entry; static: all are, by a range that was found before."""


def quantize(
    graph: Graph,
    bits: Bits = 8,
    *,
    activations: Activations = "float",
    ranges: Mapping[str, Array] | None = None,
    protect: Sequence[str] = (),
    tile: int | None = None,
    candidates: int = 1,
) -> Compression:
    """Replace the kernels of sites by integers and scales, and contract in integers.

    w ~ s_c q, with q in -127..127 (-7..7 for 4 bits) and one float32 scale s_c for each output c,
    or each tile of its inputs; where nothing is cut off, |w - s_c q| <= s_c / 2. Inputs x ~ t p are
    rounded to 8 bits alike: a site gives s_c t (sum of p q), the sum in int32. With float inputs it
    gives the sum of x (s_c q) (Jacob et al. 2018, "Quantization and training of neural networks for
    efficient integer-arithmetic-only inference"; here codes have no offset, and what stands between
    the sites stays in floats).

    Args:
        graph: of a function of the variables.
        bits: 8, or 4, of which two lie in a byte; of every site that can be quantized, or by path,
            where None, or a site that is not named, stays as it is.
        activations: what becomes of inputs: "float", "dynamic" or "static".
        ranges: of static inputs: `input_ranges(graph, apply, variables, batches)`.
        protect: shell-style patterns of paths that stay as they are.
        tile: how many inputs of a dot share a scale; all by default.
        candidates: of the end of each range of weights; the one with the least squared error is
            taken. 1 cuts off nothing, and is enough for 8 bits; 4 bits gain by 13.

    Returns:
        The compression. Its function has no gradient by codes: `fake_quantized` has.

    Raises:
        ImportError: without qwix, the extra `quantize`.
        ValueError: if a site does not exist or cannot be quantized, a static one has no finite
            range above 0, or a tile does not divide inputs; all offenders are named.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((8, 6)), "b": jnp.ones((6, 2))}
        >>> graph = trace(apply, variables, jnp.ones((5, 8)))
        >>> integers = quantize(graph, activations="dynamic")
        >>> small = integers.variables(variables)
        >>> jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), small["a"])
        {'codes': ((8, 6), 'int8'), 'scales': ((1, 6), 'float32')}
        >>> integers.function(apply)(small, jnp.ones((5, 8))).shape
        (5, 2)
    """
    require(candidates=integer(candidates), tile=integer(tile, optional=True))
    require_qwix()
    known = bits_by_path(graph, bits, protect)
    tiles = check_tiles(graph, list(known), tile)
    found_ranges = _ranges(graph, list(known), activations, ranges)
    sites = {
        path: {
            "shape": list(graph.sites[path].shape),
            "dtype": str(graph.leaves[path].dtype),
            "steps": [[name, list(numbers)] for name, numbers in graph.sites[path].steps],
            "layout": dict(graph.sites[path].layout),
            "bits": number,
            "tile": tiles[path],
            "candidates": int(candidates),
            "activations": activations,
            "range": found_ranges.get(path),
        }
        for path, number in known.items()
    }
    return from_spec({"kind": "quantize", "sites": sites})


def _ranges(
    graph: Graph, paths: Sequence[str], activations: str, ranges: Mapping[str, Array] | None
) -> dict[str, Json]:
    if activations not in get_args(Activations):
        raise ValueError(f"activations are one of {get_args(Activations)}, not {activations!r}")
    if activations == "static":
        return check_ranges(graph, paths, ranges or {})
    if ranges is not None:
        raise ValueError(
            f"only static activations have ranges, but activations={activations!r}; leave ranges "
            "out, or say activations='static'"
        )
    return {}


def from_spec(spec: Mapping[str, Json]) -> Compression:
    """Make a quantizing compression from what `Compression.spec` said of it.

    Example:
        >>> from_spec({"kind": "quantize", "sites": {}}).variables({"a": 1.0})
        {'a': 1.0}
    """
    sites = spec["sites"]

    def variables(tree: PyTree) -> PyTree:
        leaves, treedef = flatten_with_paths(tree)
        check_kernels(leaves, sites)
        kernels = {path: leaves[path] for path in sites}
        require_finite("the kernels to quantize", kernels, "train or load them again")
        is_abstract = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in kernels.values())
        made = {p: _structs(site) for p, site in sites.items()} if is_abstract else coded(kernels)
        return jax.tree.unflatten(treedef, list({**leaves, **made}.values()))

    @jax.jit
    def coded(kernels: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
        return {path: _to_leaves(kernels[path], site) for path, site in sites.items()}

    def function(f: Function) -> Function:
        return on_codes(f, sites) if sites else f

    def optimizer_state(tx: optax.GradientTransformation, opt_state: PyTree) -> PyTree:
        raise ValueError(
            "codes are no numbers to be trained, so that no optimizer state belongs to them, but "
            f"{list(sites)[:8]} have become codes; train fake_quantized(compression, function) on "
            "floats, and take compression.variables at the end"
        )

    return Compression(dict(spec), variables, function, optimizer_state)


def on_codes(f: Function, sites: Mapping[str, Json], in_integers: bool = True) -> Function:
    """Return a function that runs on codes.

    Args:
        f: of (variables, *inputs).
        sites: described, by path.
        in_integers: whether what is rounded is contracted in integers.
    """

    @functools.wraps(f)
    def quantized(tree: PyTree, *inputs: PyTree, **keywords: Any) -> PyTree:
        leaves, treedef = flatten_with_paths(tree, whole=sites)
        _check_codes(leaves, sites)
        original = {
            path: _original(leaf["scales"], sites[path]) if path in sites else leaf
            for path, leaf in leaves.items()
        }
        codes = {path: to_codes(leaves[path], site) for path, site in sites.items()}
        contract = contract_codes(sites, in_integers)
        return run_standing_in(f, (treedef, original), codes, contract, inputs, keywords)

    return quantized


def _to_leaves(kernel: Array, site: Mapping[str, Json]) -> dict[str, Array]:
    codes, scales = rounded(kernel, site)
    stored = packed(codes, scanned_axes(site)) if site["bits"] == 4 else codes
    return dict(zip(CODES, (stored, scales), strict=True))


def _structs(site: Mapping[str, Json]) -> dict[str, Array]:
    stored, scales = code_shapes(site)
    dtype = jnp.uint8 if site["bits"] == 4 else jnp.int8
    structs = jax.ShapeDtypeStruct(stored, dtype), jax.ShapeDtypeStruct(scales, jnp.float32)
    return dict(zip(CODES, structs, strict=True))


def to_codes(leaf: Mapping[str, Array], site: Mapping[str, Json]) -> Codes:
    """Return the codes and scales of a quantized kernel's two leaves, as it is contracted."""
    stored, scales = (jnp.asarray(leaf[name]) for name in CODES)
    if site["bits"] == 4:
        stored = unpacked(stored, kernel_shape(site), scanned_axes(site))
    return Codes(stored, scales, largest_of(site))


def largest_of(site: Mapping[str, Json]) -> jax.Array | None:
    """Return the range of a described site's static inputs, `float32[scanned...]`, or None."""
    return None if site["activations"] != "static" else jnp.asarray(site["range"], jnp.float32)


def _original(scales: Array, site: Mapping[str, Json]) -> Array:
    return abstract(scales, site["shape"]).update(dtype=np.dtype(jnp.dtype(site["dtype"])))


def _check_codes(leaves: Mapping[str, Array], sites: Mapping[str, Array]) -> None:
    wrong = [
        path
        for path in sites
        if not isinstance(leaves.get(path), Mapping) or set(leaves[path]) != set(CODES)
    ]
    if wrong:
        raise ValueError(
            "the quantized function takes variables in which each kernel is "
            f"{{'codes', 'scales'}}, but these are not: {wrong}; pass the result of `variables`"
        )
