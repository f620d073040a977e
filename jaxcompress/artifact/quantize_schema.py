"""What the spec of a quantization may say: codes and scales that fit the kernel they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, get_args

import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Json
from jaxcompress.artifact.shape_schema import Shapes, is_shape, rearranged_shape, require
from jaxcompress.quantization.codes import code_shapes
from jaxcompress.quantization.quantizing import CODES, Activations

__all__ = ["quantize_problems"]

MOST_CANDIDATES = 1000


def quantize_problems(sites: Mapping[str, Json], shapes: Shapes, _: Any) -> tuple[Any, Shapes]:
    """Follow a quantization backwards: what is wrong with it, and the shapes before it.

    Example:
        >>> layout = {"contracted": [0], "batch": [], "free": [1]}
        >>> site = {"shape": [4, 3], "dtype": "float32", "steps": [], "layout": layout, "bits": 8}
        >>> site |= {"tile": None, "candidates": 1, "activations": "float", "range": None}
        >>> stored = {"a/codes": (4, 3), "a/scales": (1, 3)}
        >>> quantize_problems({"a": site}, stored, {})
        ([], {'a': (4, 3)})
        >>> quantize_problems({"a": {**site, "bits": 4}}, stored, {})[0]
        ['a: codes and scales of ((6,), (1, 3)), but ((4, 3), (1, 3)) are stored']
    """
    problems, before = [], dict(shapes)
    for path, site in sites.items():
        try:
            expected = _checked(site)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            problems.append(f"{path}: no bits, layout and activations that fit ({error!r:.100})")
            continue
        stored = tuple(before.pop(f"{path}/{name}", None) for name in CODES)
        if stored != expected:
            problems.append(f"{path}: codes and scales of {expected}, but {stored} are stored")
        if path in before:
            problems.append(f"{path}: stored whole beside its codes")
        before[path] = tuple(site["shape"])
    return problems, before


def _checked(site: Json) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of a site's codes and scales, or raise one of the errors of wrong types."""
    require(is_shape(site["shape"]), "shape")
    scanned, kernel = rearranged_shape(site["shape"], site["steps"])
    require(jnp.issubdtype(np.dtype(jnp.dtype(site["dtype"])), jnp.floating), "dtype")
    require(type(site["bits"]) is int and site["bits"] in (4, 8), "bits")
    _check_layout(site["layout"], len(kernel))
    tile, count = site["tile"], site["candidates"]
    is_tile = type(tile) is int and tile >= 1 and "window" not in site["layout"]
    require(tile is None or is_tile, "tile")
    if tile is not None:
        require(kernel[site["layout"]["contracted"][-1]] % tile == 0, "tile")
    require(type(count) is int and 1 <= count <= MOST_CANDIDATES, "candidates")
    require(site["activations"] in get_args(Activations), "activations")
    if site["activations"] == "static":
        ranges = np.asarray(site["range"], np.float64)
        require(ranges.shape == tuple(scanned), "range")
        require(all(isfinite(number) and number > 0 for number in ranges.flat), "range")
    return code_shapes(site)


def _check_layout(layout: Any, count: int) -> None:
    if "window" in layout:
        named = [layout["output"], layout["input"], *layout["window"]]
        require(type(layout["groups"]) is int and layout["groups"] >= 1, "groups")
    else:
        named = [*layout["contracted"], *layout["batch"], *layout["free"]]
    require(all(type(axis) is int for axis in named), "layout")
    require(sorted(named) == list(range(count)), "layout")
