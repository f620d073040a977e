"""What the spec of a rotation may say: leaves along one stream, and what each became."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxcompress.annotations import Json
from jaxcompress.artifact.shape_schema import Shapes, is_shape, shapes_before

__all__ = ["rotate_problems", "rotation_problem"]

ROLES = ("turned", "ones", "matrix")


def rotate_problems(leaves: Mapping[str, Json], shapes: Shapes, _: Any) -> tuple[list[str], Shapes]:
    """Follow a rotation backwards: what is wrong with it, and the shapes before it.

    Example:
        >>> scale = {"shape": [3], "axes": [0], "role": "matrix"}
        >>> rotate_problems({"scale": scale}, {"scale": (3, 3)}, {})
        ([], {'scale': (3,)})
        >>> rotate_problems({"scale": scale}, {"scale": (3,)}, {})[0]
        ['scale: rotated to (3, 3), but (3,) is stored']
    """
    return shapes_before(leaves, shapes, _problem, _left, "rotated")


def _left(leaf: Json) -> tuple[int, ...]:
    shape = tuple(leaf["shape"])
    return (*shape, shape[-1]) if leaf["role"] == "matrix" else shape


def _problem(leaf: Json) -> str | None:
    if not isinstance(leaf, dict) or not is_shape(leaf.get("shape")):
        return "no shape"
    axes, rank = leaf.get("axes"), len(leaf["shape"])
    if not isinstance(axes, list) or not all(type(a) is int and 0 <= a < rank for a in axes):
        return "no axes of its shape that were rotated"
    if leaf.get("role") not in ROLES:
        return f"it became neither of {', '.join(ROLES)}"
    is_vector = bool(axes) and axes == [rank - 1]
    return None if is_vector or leaf["role"] == "turned" else "a scale of other axes than its last"


def rotation_problem(step: Mapping[str, Json]) -> str | None:
    """Say what is wrong with a rotation beside its leaves.

    Example:
        >>> rotation_problem({"width": 4, "ones": True, "group": "a[1]", "leaves": {}})
        >>> rotation_problem({"width": 4, "ones": 1, "group": "a[1]", "leaves": {}})
        'a rotation without its group, width and ones'
    """
    width, leaves = step.get("width"), step["leaves"]
    is_named = isinstance(step.get("group"), str) and isinstance(step.get("ones"), bool)
    if type(width) is not int or width < 1 or not is_named:
        return "a rotation without its group, width and ones"
    sizes = {leaf["shape"][axis] for leaf in leaves.values() for axis in leaf["axes"]}
    return None if sizes <= {width} else f"a rotation of width {width} of axes of {sorted(sizes)}"
