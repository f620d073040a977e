"""`Budget`: a ceiling on what the compressed network may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Protocol

import jax

from jaxcompress.annotations import Array
from jaxcompress.arguments import integer, real
from jaxcompress.graph.record import Graph

__all__ = ["AtMost", "Budget", "Ceilings"]


class Ceilings(Protocol):
    """What `threshold` reads of a budget: absolute ceilings by kind, which may be traced."""

    def ceilings(self) -> Mapping[str, Array]:
        """Return the ceilings that are given, by kind."""
        ...


class AtMost(NamedTuple):
    """Absolute ceilings as they are, by kind: those of a `Budget` inside a program."""

    limits: Mapping[str, Array]

    def ceilings(self) -> Mapping[str, Array]:
        """Return the ceilings, by kind."""
        return self.limits


@dataclass(frozen=True)
class Budget:
    """A cost ceiling: a fraction in (0, 1] of the graph passed with it, or an absolute number.

    A number of 1 or less is a fraction, a larger one absolute: 1.0 is everything. The integer 1
    reads as one FLOP as well as everything, and is refused. Several ceilings hold together. `of`
    makes fractions absolute, so that one budget can be kept through several compressions.

    Attributes:
        flops: multiply-accumulates x 2 per example.
        params: number of trainable parameters.
        bytes: bytes of all variables.
        latency: microseconds of one call by a table of measured times, of convs and dots alone; the
            graph is then one of `latency.with_latency`.

    Raises:
        ValueError: if no ceiling is given, or one is not a positive finite number, or the integer
            1.

    Example:
        >>> Budget(flops=0.5)
        Budget(flops=0.5, params=None, bytes=None, latency=None)
        >>> Budget(flops=-1)
        Traceback (most recent call last):
            ...
        ValueError: a ceiling is a fraction in (0, 1] or a larger absolute number, but flops=-1
    """

    flops: float | None = None
    params: float | None = None
    bytes: float | None = None
    latency: float | None = None

    def __post_init__(self) -> None:
        if not self.ceilings():
            raise ValueError(
                "a budget needs a ceiling, but none of flops, params, bytes, latency is given"
            )
        wrong = [f"{k}={v!r}" for k, v in self.ceilings().items() if real(v, above=0)]
        if wrong:
            raise ValueError(
                "a ceiling is a fraction in (0, 1] or a larger absolute number, but "
                + ", ".join(wrong)
            )
        unclear = [f"{kind}={value!r}" for kind, value in self.ceilings().items() if _is_one(value)]
        if unclear:
            raise ValueError(
                "a ceiling of 1 is everything and an integer an absolute number, but "
                + ", ".join(unclear)
                + " is both; write 1.0 for everything, or a larger number"
            )

    def ceilings(self) -> dict[str, float]:
        """Return the ceilings that are given, by kind."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {kind: value for kind, value in named.items() if value is not None}

    def of(self, graph: Graph) -> Budget:
        """Return the same budget in absolute numbers of `graph`.

        Raises:
            ValueError: if one would be 1 or less, which reads as a fraction.

        Example:
            >>> import jax.numpy as jnp
            >>> from jaxcompress.graph import trace
            >>> graph = trace(lambda v, x: x @ v["a"], {"a": jnp.ones((3, 2))}, jnp.ones((1, 3)))
            >>> Budget(flops=0.5).of(graph)
            Budget(flops=6.0, params=None, bytes=None, latency=None)
        """
        dense = {kind: float(graph.cost.of(kind)) for kind in self.ceilings()}
        absolute = self.absolute(dense)
        small = [
            f"{kind}={value!r} of {dense[kind]:g}"
            for kind, value in self.ceilings().items()
            if value < 1 and absolute[kind] <= 1
        ]
        if small:
            raise ValueError(
                "an absolute ceiling is larger than 1, but there is no more left by "
                + ", ".join(small)
                + "; ask for a larger part"
            )
        replaced: dict[str, Array] = absolute
        return replace(self, **replaced)

    def absolute(self, whole: Mapping[str, float]) -> dict[str, float]:
        """Return the ceilings in absolute numbers, by kind.

        Args:
            whole: what everything costs, by kind.

        Example:
            >>> Budget(flops=0.5, params=7).absolute({"flops": 12.0, "params": 10.0})
            {'flops': 6.0, 'params': 7.0}
        """
        given = self.ceilings().items()
        return {kind: value * whole[kind] if value <= 1 else float(value) for kind, value in given}


def _is_one(value: Array) -> bool:
    return integer(value) is None and not isinstance(value, jax.core.Tracer) and int(value) == 1
