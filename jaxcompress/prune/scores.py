"""`Scores`: what an importance returns, and what it can be compared by.

Gradients with respect to gates tell what a channel is worth, whatever it costs; norms of kernels
of different shapes tell nothing about each other. Selection takes all groups together, so a score
knows what must be done to it first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import numpy as np

from jaxcompress.annotations import Array, Json
from jaxcompress.arguments import real, require

__all__ = ["Scores", "Unit"]

Unit: TypeAlias = Literal["raw gradient", "raw norm", "comparable"]
"""raw gradient: to be divided by a power of a channel's cost; raw norm: by its group's mean;
comparable: taken as it is."""


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, repr=False, eq=False)
class Scores(Mapping[str, Any]):
    """Scores `{group: float[width]}` that know what they are comparable by: a frozen mapping.

    A pytree whose leaves are the arrays, so that jit, vmap, grad and `jax.tree.map` pass it on;
    keys are sorted there, as those of a dict. `dict(scores)` are the bare arrays, which selection
    takes as they are.

    Attributes:
        arrays: `{group: float[width]}`.
        source: which importance they are of.
        unit: what they are comparable by; `select`, `threshold`, `straight_through`, `iterative`
            and `local_search` make raw ones comparable (see `prune.comparable_scores`).
        power: of a channel's cost that raw gradients are divided by.
    """

    arrays: Mapping[str, Array]
    source: str
    unit: Unit = "comparable"
    power: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        require(power=real(self.power))

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def __repr__(self) -> str:
        return f"Scores({self.source}, {len(self)} groups, {self.unit})"

    def __str__(self) -> str:
        lines = [f"{self.source}, {len(self)} groups, {self.unit}: {self._advice()}"]
        shown = {n: score for n, score in self.items() if not isinstance(score, jax.core.Tracer)}
        if shown and all(np.ndim(score) == 1 for score in shown.values()):
            longest = max(len(name) for name in shown)
            lines.append(f"  {'group':{longest}}  width      least     median       most")
            lines += [f"  {name:{longest}}  {_summary(score)}" for name, score in shown.items()]
        return "\n".join(lines)

    def _advice(self) -> str:
        if self.unit == "raw gradient":
            power = f" ** {self.power:g}" if self.power != 1 else ""
            return f"select divides by the cost of a channel{power}"
        if self.unit == "raw norm":
            return "select divides by the mean of each group"
        return "select takes them as they are"

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], Any]:
        """Give the arrays to JAX in sorted order, as those of a dict."""
        names = tuple(sorted(self.arrays))
        children = [(jax.tree_util.DictKey(name), self.arrays[name]) for name in names]
        return children, (names, self.source, self.unit, self.power)

    @classmethod
    def tree_unflatten(cls, about: Json, arrays: Any) -> Scores:
        """Take the arrays back."""
        names, source, unit, power = about
        return cls(dict(zip(names, arrays, strict=True)), source, unit, power)


def _summary(scores: Array) -> str:
    values = np.asarray(scores, np.float64)
    numbers = (values.min(), float(np.median(values)), values.max())
    return f"{len(values):5d} " + " ".join(f"{number:10.3g}" for number in numbers)
