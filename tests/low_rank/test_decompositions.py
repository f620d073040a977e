"""Decompositions of one program wait for each other: side by side they can wait for ever."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal

from jaxcompress.graph import trace
from jaxcompress.low_rank import factorize
from tests.trees import structure_of

LAPACK = ("svd", "triangular_solve")
SHAPES = {"a": (6, 8), "b": (8, 4), "c": (4, 6)}


def apply(variables: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    for name in SHAPES:
        x = jnp.tanh(x @ variables[name])
    return x


def calls(
    jaxpr: Jaxpr, before: list[frozenset[int]], seen: list[frozenset[int]]
) -> list[frozenset[int]]:
    """Append the calls that each LAPACK call waits for; return those of the outputs."""
    waits = dict(zip(map(id, [*jaxpr.invars]), before, strict=True))
    waits |= {id(v): frozenset() for v in jaxpr.constvars}
    for equation in jaxpr.eqns:
        read = [v for v in equation.invars if not isinstance(v, Literal)]
        given = [frozenset() if isinstance(v, Literal) else waits[id(v)] for v in equation.invars]
        inner = list(bodies(equation.params))
        known: frozenset[int] = frozenset().union(*(waits[id(v)] for v in read))
        if equation.primitive.name in LAPACK:
            seen.append(known)
            results = [known | {len(seen) - 1}] * len(equation.outvars)
        elif inner:
            results = calls(inner[0], given, seen)
        else:
            results = [known] * len(equation.outvars)
        waits |= dict(zip(map(id, equation.outvars), results, strict=True))
    return [frozenset() if isinstance(v, Literal) else waits[id(v)] for v in jaxpr.outvars]


def bodies(params: dict[str, object]) -> Iterator[Jaxpr]:
    for value in params.values():
        if hasattr(value, "jaxpr"):
            yield value.jaxpr


def test_each_decomposition_waits_for_those_before_it() -> None:
    random = np.random.default_rng(0)
    variables = {name: random.normal(size=s).astype(np.float32) for name, s in SHAPES.items()}
    graph = trace(apply, variables, jnp.ones((2, 6)))
    roots = {name: np.eye(rows)[None] for name, (rows, _) in SHAPES.items()}
    output_roots = {name: np.eye(columns)[None] for name, (_, columns) in SHAPES.items()}
    lowrank = factorize(graph, dict.fromkeys(SHAPES, 2), roots=roots, output_roots=output_roots)
    closed = jax.make_jaxpr(lowrank.variables)(variables)
    seen: list[frozenset[int]] = []
    calls(closed.jaxpr, [frozenset()] * len(closed.jaxpr.invars), seen)
    assert len(seen) == 9 and all(len(known) == number for number, known in enumerate(seen))
    alone, inside = lowrank.variables(variables), jax.jit(lowrank.variables)(variables)
    assert structure_of(alone) == structure_of(inside)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), alone, inside)
