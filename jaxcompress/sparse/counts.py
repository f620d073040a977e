"""How much each leaf keeps at a sparsity of the whole: uniform, Erdos-Renyi-kernel, or global."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array
from jaxcompress.sparse.oriented import Oriented
from jaxcompress.sparse.patterns import Block, Pattern, rounded

__all__ = ["Scope", "kept_counts", "least_kept", "pools"]

Scope: TypeAlias = Literal["uniform", "erk", "global"]
"""uniform: every leaf is equally sparse; erk: see `kept_counts`; global: all leaves compete, but
each output keeps one weight, so that no layer falls silent."""

Shape: TypeAlias = tuple[int, ...]


def pools(scope: Scope, paths: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return which leaves compete with each other.

    Example:
        >>> pools("uniform", ("a", "b")), pools("global", ("a", "b"))
        ((('a',), ('b',)), (('a', 'b'),))
    """
    return (paths,) if scope == "global" else tuple((path,) for path in paths)


def least_kept(
    turned: Mapping[str, Oriented], scope: Scope, pattern: Pattern
) -> dict[str, int] | None:
    """Return how many units each leaf keeps at least, for `kept_counts`: one per output.

    None unless leaves compete. An output is an index of the last axis, in the order of `oriented`.
    """
    if scope != "global" or not isinstance(pattern, Block):
        return None
    return {path: pattern.outputs(one.turned, one.apart) for path, one in turned.items()}


def kept_counts(
    shapes: Mapping[str, Shape],
    sparsity: Array,
    scope: Scope,
    pattern: Pattern,
    least: Mapping[str, int] | None = None,
) -> list[Array]:
    """Return how many units (weights, or blocks) each pool of leaves keeps.

    uniform and global: n - round(sparsity * n), at least one. erk: leaf l keeps the fraction
    min(1, e * sum(shape_l) / prod(shape_l)), with e such that the total is the same as globally;
    rounding is by largest remainder, so that the total is exact.

    Args:
        shapes: of the pruned leaves, by path.
        sparsity: in [0, 1); may be traced unless the scope is "erk".
        scope: see `Scope`.
        pattern: what is kept or removed together.
        least: how many units each leaf keeps where leaves compete; one by default. Where the
            sparsity is traced, their sum is kept if it asks for fewer.

    Source:
        Evci et al. 2020, "Rigging the Lottery" (arXiv:1911.11134), section 3.

    Raises:
        ValueError: if the sparsity is out of range, or leaves less than the least of all leaves,
            the scope is unknown, or the pattern fixes what each leaf keeps and the scope is not
            "uniform".

    Example:
        >>> shapes = {"a": (10, 10), "b": (100, 100)}
        >>> kept_counts(shapes, 0.9, "uniform", Block())
        [10, 1000]
        >>> kept_counts(shapes, 0.9, "erk", Block())
        [92, 918]
        >>> kept_counts(shapes, 0.9, "global", Block())
        [1010]
    """
    if scope not in get_args(Scope):
        raise ValueError(f"scope must be one of {get_args(Scope)}, but is {scope!r}")
    if not isinstance(sparsity, jax.Array) and not 0 <= sparsity < 1:
        raise ValueError(f"a sparsity is in [0, 1), but {sparsity}; 1 would remove whole leaves")
    if scope != "uniform" and not isinstance(pattern, Block):
        raise ValueError(
            f"{pattern} keeps the same of every group, so it knows no scope {scope!r}; pass "
            'scope="uniform"'
        )
    if scope == "uniform":
        return [pattern.kept(shape, sparsity) for shape in shapes.values()]
    units = {path: pattern.units(shape) for path, shape in shapes.items()}
    total = rounded(sum(units.values()), sparsity)
    if scope == "global":
        return [_at_least(total, least or dict.fromkeys(shapes, 1), sparsity, units)]
    if isinstance(sparsity, jax.Array):
        raise ValueError("erk solves for its densities on the host, so the sparsity must be known")
    return _largest_remainder(units, _erk_wants(shapes, units, total), total)


def _at_least(
    total: Array, least: Mapping[str, int], sparsity: Array, units: Mapping[str, int]
) -> Array:
    floor = sum(least.values())
    if isinstance(total, jax.Array):
        return jnp.maximum(total, floor)
    if total < floor:
        listed = ", ".join(f"{path}: {number}" for path, number in least.items())
        every = sum(units.values())
        raise ValueError(
            f"where all leaves compete, every output keeps a weight (or block), {floor} in all "
            f"({listed}), but sparsity {sparsity} leaves {total} of {every}; ask for at most "
            f"{math.floor((1 - floor / every) * 1e4) / 1e4}, protect leaves, or pass another scope"
        )
    return total


def _erk_wants(
    shapes: Mapping[str, Shape], units: Mapping[str, int], total: int
) -> dict[str, float]:
    """Return what each leaf wants to keep, in fractions of units; full leaves are found in turn."""
    raw = {path: sum(shape) / math.prod(shape) * units[path] for path, shape in shapes.items()}
    full: set[str] = set()
    while True:
        left = total - sum(units[path] for path in full)
        open_raw = sum(raw[path] for path in shapes if path not in full)
        scale = left / open_raw if open_raw else 0.0
        more = {p for p in shapes if p not in full and scale * raw[p] > units[p]}
        if not more:
            return {p: float(units[p]) if p in full else scale * raw[p] for p in shapes}
        full |= more


def _largest_remainder(
    units: Mapping[str, int], wants: Mapping[str, float], total: int
) -> list[int]:
    """Round to integers of the given total, each at least one and at most its units."""
    kept = {path: min(units[path], max(1, math.floor(want))) for path, want in wants.items()}
    by_remainder = sorted(wants, key=lambda path: math.floor(wants[path]) - wants[path])
    while (missing := total - sum(kept.values())) != 0:
        step = 1 if missing > 0 else -1
        movable = [p for p in by_remainder if 1 <= kept[p] + step <= units[p]]
        if not movable:
            break
        for path in movable[: abs(missing)] if step > 0 else movable[::-1][: abs(missing)]:
            kept[path] += step
    return list(kept.values())
