"""Which leaves are kernels, and their axes as (apart..., inputs, outputs), whoever wrote the layer.

A graph knows both: its sites are the leaves that are contracted, and say along which axes. Without
one a leaf is taken as it is, inputs last but one and outputs last, which is Linen's Dense and Conv.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.graph import Graph, Site
from jaxcompress.graph.rearrange import rearranged
from jaxcompress.paths import match_path
from jaxcompress.sparse.patterns import Block, Pattern

__all__ = ["Oriented", "check_pattern", "oriented", "sites_of"]

Shape = tuple[int, ...]


class Oriented(NamedTuple):
    """How the axes of one leaf are brought into the order (apart..., inputs, outputs).

    A dot's contracted axes are flattened to one, in the order in which they are contracted; so are
    its outputs. A convolution's inputs are its input channels; its window lies among the axes in
    front. The axes of a scan and of a batch of kernels come first of all.

    Attributes:
        shape: of the leaf.
        site: what the graph knows of it; None takes the leaf as it is.
    """

    shape: Shape
    site: Site | None = None

    @property
    def apart(self) -> int:
        """How many axes in front number kernels of their own."""
        if self.site is None:
            return 0
        scanned = sum(name == "slice" for name, _ in self.site.steps)
        return scanned + len(self.site.layout.get("batch", ()))

    @property
    def turned(self) -> Shape:
        """The shape in the new order."""
        return tuple(jax.eval_shape(self.forward, jax.ShapeDtypeStruct(self.shape, bool)).shape)

    def forward(self, array: Array) -> PyTree:
        """Bring an array of the leaf's shape into the new order."""
        if self._is_plain():
            return array
        assert self.site is not None
        function = functools.partial(_inputs_by_outputs, layout=self.site.layout)
        for name, _ in self.site.steps:
            function = jax.vmap(function) if name == "slice" else function
        return function(rearranged(jnp.asarray(array), self.site.steps))

    def back(self, mask: jax.Array) -> jax.Array:
        """Bring a mask in the new order back into the leaf's."""
        if self._is_plain():
            return mask
        # The way there only moves entries, so that its transpose is its inverse.
        aval = jax.ShapeDtypeStruct(self.shape, jnp.float32)
        (restored,) = jax.linear_transpose(self.forward, aval)(mask.astype(jnp.float32))
        return restored > 0

    def _is_plain(self) -> bool:
        if self.site is None:
            return True
        layout = self.site.layout
        order, is_flat = _order(layout), "window" in layout
        is_flat = is_flat or len(layout["contracted"]) == len(layout["free"]) == 1
        return not self.site.steps and is_flat and order == list(range(len(order)))


def _order(layout: Mapping[str, Json]) -> list[int]:
    if "window" in layout:
        return [*layout["window"], layout["input"], layout["output"]]
    return [*layout["batch"], *layout["contracted"], *layout["free"]]


def _inputs_by_outputs(kernel: jax.Array, layout: Mapping[str, Json]) -> jax.Array:
    turned = kernel.transpose(_order(layout))
    if "window" in layout:
        return turned
    sizes = [[kernel.shape[i] for i in layout[name]] for name in ("batch", "contracted", "free")]
    return turned.reshape(*sizes[0], prod(sizes[1]), prod(sizes[2]))


def sites_of(leaves: Mapping[str, Array], paths: Iterable[str], graph: Graph) -> dict[str, Site]:
    """Return the sites of those of the leaves that a graph has as kernels.

    Args:
        leaves: by path; the keys in front of a graph's paths may be missing, or be more.
        paths: of the leaves that are looked up.
        graph: of a function of these variables.

    Raises:
        ValueError: if a leaf is not the graph's, or of another shape; all are named.
    """
    names, sites, wrong = list(graph.leaves), {}, []
    for path in paths:
        name = path if path in graph.leaves else match_path(path, names)
        if name is None:
            wrong.append(f"{path} is not in the graph")
        elif tuple(graph.leaves[name].shape) != tuple(np.shape(leaves[path])):
            wrong.append(f"{path} is {np.shape(leaves[path])}, not {graph.leaves[name].shape}")
        elif name in graph.sites:
            sites[path] = graph.sites[name]
    if wrong:
        raise ValueError(
            f"every leaf that may be pruned must be one of the graph's, but {'; '.join(wrong)}; "
            "trace the function of these variables, or exempt the leaves by protect="
        )
    return sites


def oriented(
    leaves: Mapping[str, Array],
    paths: Iterable[str],
    pattern: Pattern,
    graph: Graph | None = None,
) -> dict[str, Oriented]:
    """Say for each leaf which of its axes a pattern takes for inputs and outputs.

    Args:
        leaves: by path.
        paths: of the leaves to prune.
        pattern: one that names an axis means the leaf's own.
        graph: of a function of these variables.

    Raises:
        ValueError: if the contracted axis of a leaf is needed and not known, or differs between
            its uses; all are named.

    Example:
        >>> oriented({"kernel": np.ones((8, 4))}, ["kernel"], Block())["kernel"].turned
        (8, 4)
    """
    paths = list(paths)
    sites = {} if graph is None else sites_of(leaves, paths, graph)
    if not pattern.by_inputs:
        sites = {}
    shapes = {path: tuple(np.shape(leaves[path])) for path in paths}
    problems = {path: _problem(path, shapes[path], pattern, sites.get(path)) for path in paths}
    wrong = [f"{path} {problem}" for path, problem in problems.items() if problem]
    if wrong:
        raise ValueError(
            f"{pattern} needs to know along which axis a kernel is contracted, but "
            f"{'; '.join(wrong)}; pass graph=, name the axis as in NofM(2, 4, axis=-1), or exempt "
            "these leaves by protect="
        )
    return {path: Oriented(shape, sites.get(path)) for path, shape in shapes.items()}


def _problem(path: str, shape: Shape, pattern: Pattern, site: Site | None) -> str | None:
    """Say why the inputs of a leaf are not known; None where they are, or do not matter."""
    if site is not None:
        # Uses that differ in layout leave a site no form; the first one's is all it tells.
        is_ambiguous = pattern != Block() and site.uses > 1 and not site.forms
        return f"is used {site.uses} times, not all alike" if is_ambiguous else None
    if isinstance(pattern, Block) or not pattern.by_inputs:
        return None
    if len(shape) != 2:
        return f"has {len(shape)} axes"
    is_linen = path.rsplit("/", 1)[-1] == "kernel"
    return None if is_linen else "may be (inputs, outputs) or (outputs, inputs)"


def check_pattern(pattern: Pattern, shapes: Mapping[str, Shape]) -> None:
    """Raise unless every leaf divides into the groups or blocks of the pattern.

    Raises:
        ValueError: naming all leaves that do not.
    """
    problems = {path: pattern.problem(shape) for path, shape in shapes.items()}
    wrong = [f"{path}: {problem}" for path, problem in problems.items() if problem]
    if wrong:
        raise ValueError(
            f"{pattern} must divide the axes of every pruned leaf, but {'; '.join(wrong)}; exempt "
            "these leaves by protect=, or choose another pattern"
        )
