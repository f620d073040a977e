"""Costs as arithmetic on the widths of groups: FLOPs, parameters, bytes and, by a table, latency.

The cost of one conv or dot is a constant times the kept counts of its labelled axes; that of a
leaf is the product of its axes. Both are a `Term`, and a kept count is linear in the widths:
count = fixed + multiplicities . widths. All of it works on NumPy and on traced arrays.

A convolution's multiply-accumulates are batch x outputs x inputs per group x the pairs of a result
position and a kernel tap. The zeros that a transposed convolution puts between and around pixels
are not counted; those that keep the size of an image under an ordinary one are, as in published
counts, but for taps that never meet a pixel. XLA's own count differs in these alone: it leaves out
all padding (see `jaxcompress.graph.taps`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph.axes import Axis
from jaxcompress.graph.timed import TimedTerm, latency

__all__ = ["KINDS", "Cost", "CostBuilder", "Term"]

KINDS = ("flops", "params", "bytes")
"""What is counted, and a `Budget` may bound; beside them "latency", which is looked up."""


class Term(NamedTuple):
    """One summand of a cost: `constant` x the product of the kept counts of `axes`.

    Attributes:
        constant: the part that no group changes.
        axes: positions among the cost's distinct axes.
        path: the leaf that the term is of, or None.
        source: the line of code of a contraction; empty for a leaf.
    """

    constant: float
    axes: tuple[int, ...]
    path: str | None = None
    source: str = ""


@dataclass(frozen=True, eq=False)
class Cost:
    """What a network costs, as a function of the widths of its groups.

    FLOPs are multiply-accumulates x 2 of every conv and dot, per example; a shared kernel counts
    once per use, the body of a scan, and of a `while` that counts to a known number, as often as it
    runs. Any other `while` counts as one round, and a `cond` as all of its branches
    (`Graph.estimates`). What is computed from variables and constants alone does not depend on the
    batch and counts whole. Parameters and bytes count every leaf once.

    Attributes:
        names: the groups, in the order of all width vectors.
        dense: `int[groups]`, the full widths.
        fixed: `float[axes]`, the part of each distinct axis that always stays.
        multiplicity: `float[axes, groups]`, entries per channel on each distinct axis.
        flop_terms: one term per contraction.
        parameter_terms: one term per leaf that is trained or loaded.
        byte_terms: the same in bytes.
        examples: by how many examples the FLOPs are divided.
        least: `int[groups]`, the fewest channels: 0 where the network goes on without the group.
        timed: what each operation takes, once `with_latency` has said so.
    """

    names: tuple[str, ...]
    dense: np.ndarray
    fixed: np.ndarray
    multiplicity: np.ndarray
    flop_terms: tuple[Term, ...]
    parameter_terms: tuple[Term, ...]
    byte_terms: tuple[Term, ...]
    examples: int
    least: np.ndarray
    timed: tuple[TimedTerm, ...] = ()

    def flops(self, widths: Array) -> Array:
        """Return the FLOPs per example at `widths`, `[groups]`."""
        return self._sum(self.flop_terms, widths) / self.examples

    def params(self, widths: Array) -> PyTree:
        """Return the number of entries of all leaves at `widths`, `[groups]`."""
        return self._sum(self.parameter_terms, widths)

    def bytes(self, widths: Array) -> Array:
        """Return the bytes of all leaves at `widths`, `[groups]`."""
        return self._sum(self.byte_terms, widths)

    def latency(self, widths: Array) -> Array:
        """Return the microseconds of all operations at `widths`, `[groups]`, of one call.

        Raises:
            ValueError: if the graph has no table of latencies.
        """
        if not self.timed:
            raise ValueError(
                "latency is looked up in a table of measured times, but this graph has none; pass "
                "latency.with_latency(graph, table) in its place"
            )
        return latency(self.timed, self._counts(widths))

    def of(self, kind: str, widths: Array = None) -> Array:
        """Return the cost of one kind at `widths`, `[groups]`; at the full widths by default.

        Raises:
            ValueError: if the kind is none of "flops", "params", "bytes", "latency", or latency is
                asked for where there is no table.

        Example:
            >>> import jax.numpy as jnp
            >>> from jaxcompress.graph import trace
            >>> graph = trace(lambda v, x: x @ v["a"], {"a": jnp.ones((3, 2))}, jnp.ones((1, 3)))
            >>> float(graph.cost.of("flops")), float(graph.cost.of("bytes"))
            (12.0, 24.0)
        """
        known = {name: getattr(self, name) for name in (*KINDS, "latency")}
        if kind not in known:
            raise ValueError(f"a cost is one of {', '.join(known)}, but {kind!r} is asked for")
        count = known[kind]
        return count(self.dense if widths is None else widths)

    def widths(self, kept: Mapping[str, Array]) -> np.ndarray:
        """Return `int[groups]`, the widths of a keep; groups that it does not name stay whole."""
        return np.asarray(
            [
                int(np.asarray(kept[name]).sum()) if name in kept else int(dense)
                for name, dense in zip(self.names, self.dense, strict=True)
            ],
            np.int64,
        )

    def _sum(self, terms: Sequence[Term], widths: Array) -> Array:
        constant, axes = _pack(terms, len(self.fixed))
        constant = constant if isinstance(widths, np.ndarray) else constant.astype(_float_type())
        return (constant * self._counts(widths)[axes].prod(axis=-1)).sum(-1)

    def _counts(self, widths: Array) -> Array:
        """Return the counts of all distinct axes, then a 1."""
        multiplicity, fixed = self.multiplicity, self.fixed
        if not isinstance(widths, np.ndarray):
            # Copies of the float type in use: JAX remembers a captured array's type by identity,
            # and one traced in both 32 and 64 bits does not lower.
            multiplicity, fixed = (x.astype(_float_type()) for x in (multiplicity, fixed))
        return _append_one(multiplicity @ widths + fixed)


def _pack(terms: Sequence[Term], one: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the constants and axis positions of terms, padded with the position of a 1."""
    depth = max((len(term.axes) for term in terms), default=0)
    constant = np.asarray([term.constant for term in terms], np.float64)
    axes = [[*term.axes, *[one] * (depth - len(term.axes))] for term in terms]
    return constant, np.asarray(axes, np.int64).reshape(len(terms), depth)


def _float_type() -> Array:
    import jax.numpy as jnp

    return jnp.result_type(float)


def _append_one(counts: Any) -> Array:
    if isinstance(counts, np.ndarray):
        return np.append(counts, 1.0)
    import jax.numpy as jnp

    return jnp.append(counts, 1.0)


class CostBuilder:
    """Collects terms while the groups are known and turns them into a `Cost`."""

    def __init__(self, group_of: np.ndarray, names: Sequence[str]) -> None:
        self._group_of, self._names = group_of, tuple(names)
        self._positions: dict[bytes, int] = {}
        self._rows: list[np.ndarray] = []

    def axes(self, axes: Sequence[Axis]) -> tuple[tuple[int, ...], int]:
        """Return the positions of the axes that may shrink, and the product of the others."""
        positions, constant = [], 1
        for axis in axes:
            if axis.labels is None:
                constant *= axis.size
                continue
            groups = self._group_of[axis.labels]
            row = np.bincount(groups + 1, minlength=len(self._names) + 1)
            if not row[1:].any():
                constant *= axis.size
                continue
            key = row.tobytes()
            if key not in self._positions:
                self._positions[key] = len(self._rows)
                self._rows.append(row)
            positions.append(self._positions[key])
        return tuple(positions), constant

    def term(
        self, axes: Sequence[Axis], constant: float, path: str | None = None, source: str = ""
    ) -> Term:
        """Return the term of one contraction or leaf."""
        positions, factor = self.axes(axes)
        return Term(float(constant * factor), positions, path, source)

    def build(
        self,
        dense: Sequence[int],
        flop_terms: Sequence[Term],
        parameter_terms: Sequence[Term],
        byte_terms: Sequence[Term],
        examples: int,
    ) -> Cost:
        """Return the cost of all terms."""
        rows = np.asarray(self._rows, np.float64).reshape(len(self._rows), len(self._names) + 1)
        return Cost(
            self._names,
            np.asarray(dense, np.int64),
            rows[:, 0],
            rows[:, 1:] / np.asarray(dense, np.float64),
            tuple(flop_terms),
            tuple(parameter_terms),
            tuple(byte_terms),
            examples,
            np.ones(len(dense), np.int64),
        )
