"""Variables split over devices: how what becomes of a leaf is laid out, so that none is gathered.

A leaf is split where its `NamedSharding` says. What a compression makes of it is split over the
same axes of the mesh: along the axis where it was, if the new size divides; else along the largest
axis that does; only where none does is it whole on every device. Steps over a mesh leave variables
that lie on it as they are, and copy all others to every device.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcompress import parallel
from jaxcompress.annotations import Array, PyTree
from jaxcompress.paths import flatten_with_paths

__all__ = ["fit_layout", "inherited", "is_split", "layout_of", "layout_on", "placed"]


def layout_of(leaf: Array) -> NamedSharding | None:
    """Return how a leaf, or a `jax.ShapeDtypeStruct`, lies on a mesh; None where on no mesh.

    Example:
        >>> layout_of(np.ones(2)) is None
        True
    """
    if isinstance(leaf, jax.core.Tracer):
        return None
    sharding = getattr(leaf, "sharding", None)
    return sharding if isinstance(sharding, NamedSharding) else None


def is_split(leaf: Array) -> bool:
    """Whether no device holds all of a leaf.

    Example:
        >>> is_split(parallel.replicate(np.ones(2), parallel.mesh()))
        False
    """
    layout = layout_of(leaf)
    return layout is not None and not layout.is_fully_replicated


def fit_layout(
    layout: NamedSharding, before: Sequence[int], after: Sequence[int], busy: Collection[int] = ()
) -> NamedSharding:
    """Lay what becomes of a leaf out over the axes of the mesh that the leaf is split over.

    Args:
        layout: of the leaf.
        before: its shape.
        after: the new shape; of another number of axes, no axis stands for one of before.
        busy: axes that must not be split.

    Example:
        >>> mesh = parallel.mesh(jax.devices()[:1])
        >>> layout = parallel.batch_sharding(mesh)
        >>> tuple(fit_layout(layout, (4, 6), (3, 6)).spec)
        ('data', None)
        >>> tuple(fit_layout(layout, (4, 6), (3, 6), busy=[0]).spec)
        (None, 'data')
    """
    given = [_names(entry) for entry in layout.spec] + [()] * (len(before) - len(layout.spec))
    stays = len(before) == len(after)
    names: list[tuple[str, ...]] = [()] * len(after)
    homeless = []
    for axis, group in enumerate(given):
        if stays and axis not in busy and _divides(layout.mesh, group, after[axis]):
            names[axis] = group
        elif group:
            homeless.append(group)
    for group in homeless:
        free = [axis for axis in range(len(after)) if not names[axis] and axis not in busy]
        fits = [axis for axis in free if _divides(layout.mesh, group, after[axis])]
        if fits:
            names[max(fits, key=lambda axis: after[axis])] = group
    entries = [group[0] if len(group) == 1 else group or None for group in names]
    return NamedSharding(layout.mesh, PartitionSpec(*entries))


def _names(entry: Any) -> tuple[str, ...]:
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)


def _divides(mesh: Any, group: Sequence[str], size: int) -> bool:
    parts = int(np.prod([mesh.shape[name] for name in group]))
    return size > 0 and size % parts == 0


def inherited(like: PyTree, shapes: Mapping[str, Sequence[int]]) -> dict[str, NamedSharding]:
    """Return the layouts of what has become of the leaves of `like`, where these lie on a mesh.

    Args:
        like: variables, or their `jax.ShapeDtypeStruct` with a sharding.
        shapes: by path; a leaf that has become several is the start of their paths.

    Example:
        >>> mesh = parallel.mesh(jax.devices()[:1])
        >>> like = {"a": jax.ShapeDtypeStruct((4, 6), "int8", sharding=parallel.replicated(mesh))}
        >>> {path: tuple(one.spec) for path, one in inherited(like, {"a/first": (4, 2)}).items()}
        {'a/first': (None, None)}
    """
    known = {path: leaf for path, leaf in flatten_with_paths(like)[0].items() if layout_of(leaf)}
    made = {}
    for path, shape in shapes.items():
        origin = path
        while origin not in known and "/" in origin:
            origin = origin.rpartition("/")[0]
        layout = layout_of(known.get(origin))
        if layout is not None:
            made[path] = fit_layout(layout, known[origin].shape, shape)
    return made


def layout_on(leaf: Array, mesh: Mesh) -> NamedSharding:
    """Return how a leaf lies on a mesh, or that every device holds it, where it lies elsewhere.

    Example:
        >>> tuple(layout_on(np.ones(2), parallel.mesh()).spec)
        ()
    """
    layout = layout_of(leaf)
    return layout if layout is not None and layout.mesh == mesh else parallel.replicated(mesh)


def placed(tree: PyTree, mesh: Mesh) -> PyTree:
    """Return a tree on a mesh: what lies there stays as it is, all else goes to every device.

    Example:
        >>> placed({"scale": np.ones(2)}, parallel.mesh())["scale"].is_fully_replicated
        True
    """

    def each(leaf: Array) -> Array:
        layout = layout_of(leaf)
        is_there = layout is not None and layout.mesh == mesh
        return leaf if is_there else parallel.replicate(leaf, mesh)

    return jax.tree.map(each, tree)
