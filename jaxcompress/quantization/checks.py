"""Which sites can be quantized, and why others cannot; all offenders named at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.graph import Graph, Site
from jaxcompress.paths import check_matched, fits_any
from jaxcompress.quantization.codes import kernel_shape, scanned_axes

__all__ = [
    "Bits",
    "bits_by_path",
    "check_kernels",
    "check_ranges",
    "check_tiles",
    "quantizable",
]

Bits = int | Mapping[str, int | None]
"""Of all sites that can be quantized, or by path; None leaves a site as it is."""


def refusal(graph: Graph, path: str) -> str | None:
    """Say why a kernel cannot be quantized; None where it can."""
    if path not in graph.sites:
        is_leaf = path in graph.leaves
        return "no convolution or dot contracts it" if is_leaf else "there is no such leaf"
    site, dtype = graph.sites[path], graph.leaves[path].dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        return f"it is of {dtype}"
    if site.other_uses:
        return f"it is read by {site.other_uses} other operations, which need floats"
    if not site.forms:
        return "it is batched, of unequal uses, or inside a custom derivative"
    return None


def quantizable(graph: Graph, protect: Sequence[str] = ()) -> list[str]:
    """Return the sites whose kernels codes may stand for, in the order of the program.

    Args:
        graph: of the function.
        protect: shell-style patterns of paths to leave out.

    Raises:
        ValueError: if a pattern fits no site, or no site is left.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((8, 6)), "b": jnp.ones((6, 2))}
        >>> quantizable(trace(apply, variables, jnp.ones((5, 8))), protect=["b"])
        ['a']
    """
    check_matched("protect", protect, graph.sites)
    reasons = {path: refusal(graph, path) for path in graph.sites}
    paths = [path for path, reason in reasons.items() if not (reason or fits_any(path, protect))]
    if not paths:
        said = [f"{path}: {reason or 'protected'}" for path, reason in reasons.items()]
        raise ValueError(
            "codes stand for kernels of convolutions and dots, but none can be quantized: "
            f"{'; '.join(said) or 'the function has none'}; print(graph) shows what it reads"
        )
    return paths


def bits_by_path(graph: Graph, bits: Bits, protect: Sequence[str]) -> dict[str, int]:
    """Return the bits of each kernel that is to be quantized.

    Raises:
        ValueError: naming every site that does not exist or cannot be quantized, and every number
            of bits other than 8 and 4.
    """
    if not isinstance(bits, Mapping):
        bits = dict.fromkeys(quantizable(graph, protect), bits)
    else:
        check_matched("protect", protect, graph.sites)
        bits = {path: n for path, n in bits.items() if not fits_any(path, protect)}
    wanted = {path: number for path, number in bits.items() if number is not None}
    wrong = [f"{path}: {reason}" for path in wanted if (reason := refusal(graph, path))]
    wrong += [
        f"{path}: {number!r} bits"
        for path, number in wanted.items()
        if isinstance(number, bool) or number not in (4, 8)
    ]
    if wrong:
        raise ValueError(
            "a kernel that is only contracted, always alike, has codes of 8 or 4 bits, but "
            f"{'; '.join(wrong)}; leave these sites alone (None, or protect=)"
        )
    return {path: int(wanted[path]) for path in graph.sites if path in wanted}


def check_tiles(graph: Graph, paths: Sequence[str], tile: int | None) -> dict[str, int | None]:
    """Return how many inputs share a scale, by path: None where all of an output do.

    Raises:
        ValueError: if the number does not divide the inputs of a dot, or there is no dot.
    """
    dots = [path for path in paths if _inputs(graph.sites[path]) is not None]
    wrong = []
    for path in dots if tile is not None else []:
        inputs = _inputs(graph.sites[path])
        assert inputs is not None and tile is not None
        if inputs % tile:
            wrong.append(f"{path} has {inputs}")
    if wrong or (tile is not None and not dots):
        raise ValueError(
            f"tiles of {tile} inputs divide the inputs of every dot, but "
            f"{'; '.join(wrong) or 'no site is a dot'}; take another number, or protect these"
        )
    return {path: tile if path in dots else None for path in paths}


def _inputs(site: Site) -> int | None:
    """Return how many inputs lie along the last axis that a dot sums over; None of a conv."""
    if "window" in site.layout:
        return None
    described = {"shape": site.shape, "steps": site.steps}
    return kernel_shape(described)[scanned_axes(described) + site.layout["contracted"][-1]]


def check_ranges(graph: Graph, paths: Sequence[str], ranges: Mapping[str, Array]) -> dict[str, Any]:
    """Return the ranges of static inputs as plain numbers, or lists of them for steps of scans.

    Raises:
        ValueError: naming sites without a range, and ranges that are not finite and above 0 or not
            one per step.
    """
    wrong = [f"{path}: none" for path in paths if path not in ranges]
    for path in paths:
        if path not in ranges:
            continue
        site = graph.sites[path]
        value = np.asarray(ranges[path], np.float64)
        expected = tuple(site.shape[: scanned_axes({"steps": site.steps})])
        if value.shape != expected:
            wrong.append(f"{path}: of shape {value.shape} instead of {expected}")
        elif not (np.isfinite(value) & (value > 0)).all():
            wrong.append(f"{path}: {value.tolist()}")
    if wrong:
        raise ValueError(
            "static inputs have a range each, finite and above 0, but these have not: "
            f"{'; '.join(wrong)}; take them from batches by jc.quantization.input_ranges, and "
            "protect sites that are given zeros alone"
        )
    return {path: np.asarray(ranges[path], np.float32).tolist() for path in paths}


def check_kernels(leaves: Mapping[str, Array], sites: Mapping[str, Any]) -> None:
    """Raise unless every kernel is there, of its shape and a floating dtype.

    Raises:
        ValueError: naming those that are not.
    """
    wrong = [
        f"{path}: {'missing' if path not in leaves else np.shape(leaves[path])}, expected "
        f"{tuple(site['shape'])}"
        for path, site in sites.items()
        if path not in leaves or list(np.shape(leaves[path])) != list(site["shape"])
    ]
    wrong += [
        f"{path}: of {dtype}"
        for path in sites
        if path in leaves
        and not jnp.issubdtype(dtype := jnp.result_type(leaves[path]), jnp.floating)
    ]
    if wrong:
        raise ValueError(
            "the variables to quantize have the kernels that the compression was made for, of "
            f"floats, but {'; '.join(wrong)}; pass the variables of the same network"
        )
