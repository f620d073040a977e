"""What the spec of a compression may say: each step is compared with the shapes that it leaves.

The steps are followed backwards, from the stored leaves to those of the original network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.artifact.fold_schema import fold_problems
from jaxcompress.artifact.quantize_schema import quantize_problems
from jaxcompress.artifact.rotate_schema import rotate_problems, rotation_problem
from jaxcompress.artifact.shape_schema import (
    FREE_INDICES,
    is_shape,
    rearranged_shape,
    require,
)
from jaxcompress.low_rank.site_factors import FACTORS

__all__ = ["shapes_before"]

Shapes = dict[str, tuple[int, ...]]
Counts = Mapping[str, int | None]


def shapes_before(spec: Mapping[str, Json], shapes: Shapes, nonzero: Counts) -> Any:
    """Follow a spec backwards.

    Args:
        spec: as JSON gave it.
        shapes: of the leaves after the compression.
        nonzero: how many values of each are not zero, None where unknown.

    Returns:
        `(problems, shapes)`: what is wrong, by place, and the shapes before the compression, as far
        as nothing was wrong.

    Example:
        >>> leaf = {"shape": [4, 3], "keep": {"0": [1]}}
        >>> spec = {"kind": "shrink", "leaves": {"a": leaf}}
        >>> shapes_before(spec, {"a": (1, 3)}, {})
        ([], {'a': (4, 3)})
        >>> shapes_before(spec, {"a": (2, 3)}, {})[0]
        ['spec: a: its kept indices leave (1, 3), but (2, 3) is stored']
    """
    is_chain = spec.get("kind") == "chain"
    steps = spec.get("steps") if is_chain else [spec]
    if not isinstance(steps, list):
        return ["spec: a chain without a list of steps"], shapes
    counts: Counts = nonzero
    for step in reversed(steps):
        kind = step.get("kind") if isinstance(step, dict) else None
        check = _CHECKS.get(kind) if isinstance(kind, str) else None
        named = (
            None
            if check is None
            else step.get("sites" if kind in ("factorize", "quantize") else "leaves")
        )
        if check is None or not isinstance(named, dict):
            return [f"spec: a step of kind {kind!r:.80} without what it changes"], shapes
        # Later steps may fill what this one emptied.
        counts = counts if kind == "sparsify" else {}
        problems, shapes = check(named, shapes, counts)
        problems += _carried_problems(step.get("inputs", {}))
        if kind == "rotate" and not problems:
            problems += filter(None, [rotation_problem(step)])
        if step.get("means", "all") not in ("kept", "all"):
            problems.append("its means divide by neither 'kept' nor 'all'")
        if problems:
            return [f"spec: {problem}" for problem in problems], shapes
    return [], shapes


def _shrink(leaves: Mapping[str, Array], shapes: Shapes, _: Counts) -> tuple[list[str], Shapes]:
    problems, before = [], dict(shapes)
    indices = kept_indices = 0
    for path, leaf in leaves.items():
        problem = _kept_problem(leaf)
        if problem is not None:
            problems.append(f"{path}: {problem}")
            continue
        shape, keep = leaf["shape"], leaf["keep"]
        left = tuple(len(keep.get(str(a), range(size))) for a, size in enumerate(shape))
        if path not in shapes or left != shapes[path]:
            now = shapes.get(path, "nothing")
            problems.append(f"{path}: its kept indices leave {left}, but {now} is stored")
        before[path] = tuple(shape)
        indices += sum(shape[int(axis)] for axis in keep)
        kept_indices += sum(map(len, keep.values()))
    if indices > FREE_INDICES + 64 * kept_indices:
        problems.append(f"{list(leaves)[:8]}: axes of {indices} indices keep only {kept_indices}")
    return problems, before


def _carried_problems(inputs: PyTree) -> list[str]:
    """Say what is wrong with the inputs that shrink with the variables."""
    if not isinstance(inputs, dict):
        return ["its inputs are no object"]
    problems = {path: _kept_problem(entry) for path, entry in inputs.items()}
    return [f"input {path}: {problem}" for path, problem in problems.items() if problem]


def _kept_problem(leaf: Array) -> str | None:
    if not isinstance(leaf, dict) or not is_shape(leaf.get("shape")):
        return "no shape"
    keep, shape = leaf.get("keep"), leaf["shape"]
    if not isinstance(keep, dict):
        return "no kept indices"
    for axis, kept in keep.items():
        if axis not in map(str, range(len(shape))):
            return f"no axis {axis!r:.40}"
        is_list = isinstance(kept, list) and all(type(index) is int for index in kept)
        if not is_list or kept != sorted(set(kept)):
            return f"the kept indices of axis {axis} are no rising whole numbers"
        if kept and (kept[0] < 0 or kept[-1] >= shape[int(axis)]):
            return f"the kept indices of axis {axis} go beyond its size {shape[int(axis)]}"
    return None


def _sparsify(
    leaves: Mapping[str, Array], shapes: Shapes, nonzero: Counts
) -> tuple[list[str], Shapes]:
    problems = []
    for path, leaf in leaves.items():
        if not isinstance(leaf, dict) or not is_shape(leaf.get("shape")):
            problems.append(f"{path}: no shape")
            continue
        shape, most = tuple(leaf["shape"]), leaf.get("nonzero")
        if shape != shapes.get(path):
            problems.append(f"{path}: sparse of shape {shape}, but {shapes.get(path)} is stored")
        if type(most) is not int or not 0 <= most <= prod(shape):
            problems.append(f"{path}: {most!r:.40} values of {shape} are not zero")
        elif (nonzero.get(path) or 0) > most:
            problems.append(f"{path}: {nonzero[path]} values are not zero, {most} expected at most")
    return problems, shapes


def _factorize(sites: Mapping[str, Array], shapes: Shapes, _: Counts) -> tuple[list[str], Shapes]:
    problems, before = [], dict(shapes)
    for path, site in sites.items():
        try:
            expected = _factor_shapes(site)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            problems.append(f"{path}: no form, rank, steps and layout that fit ({error!r:.100})")
            continue
        stored = tuple(before.pop(f"{path}/{name}", None) for name in FACTORS)
        if stored != expected:
            problems.append(
                f"{path}: factors of {expected} by rank and form, but {stored} are stored"
            )
        if path in before:
            problems.append(f"{path}: stored whole beside its factors")
        before[path] = tuple(site["shape"])
    return problems, before


def _factor_shapes(site: Json) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of a site's two factors, or raise one of the errors of wrong types."""
    require(is_shape(site["shape"]), "shape")
    scanned, kernel = rearranged_shape(site["shape"], site["steps"])
    layout, form, rank = site["layout"], site["form"], site["rank"]
    require(form in ("dense", "channel", "spatial"), "form")
    rows, columns = (list(part) for part in _rows_and_columns(form, layout))
    named = rows + columns
    require(all(type(i) is int for i in named), "layout")
    require(sorted(named) == list(range(len(kernel))), "layout")
    groups = layout.get("groups", 1)
    require(type(groups) is int and groups >= 1, "groups")
    height = prod(kernel[i] for i in rows)
    width = prod(kernel[i] for i in columns)
    require(width % groups == 0, "groups")
    require(type(rank) is int and 1 <= rank <= min(height, width // groups), f"rank {rank!r:.40}")
    if form == "dense":
        first = [*(kernel[i] for i in rows), rank]
        second = [rank, *(kernel[i] for i in columns)]
    else:
        first = [size if i in rows else 1 for i, size in enumerate(kernel)]
        second = [size if i in columns else 1 for i, size in enumerate(kernel)]
        first[layout["output"]], second[layout["input"]] = rank * groups, rank
    return (*scanned, *first), (*scanned, *second)


def _rows_and_columns(form: str, layout: Mapping[str, Json]) -> Iterator[list[int]]:
    if form == "dense":
        yield from (layout["contracted"], layout["free"])
    elif form == "channel":
        yield from ([*layout["window"], layout["input"]], [layout["output"]])
    else:
        first, second = layout["window"]
        yield from ([first, layout["input"]], [second, layout["output"]])


_CHECKS = {
    "shrink": _shrink,
    "fold": fold_problems,
    "rotate": rotate_problems,
    "sparsify": _sparsify,
    "factorize": _factorize,
    "quantize": quantize_problems,
}
