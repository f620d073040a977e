"""Which groups may go as a whole: all of them together leave outputs that depend on the inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcompress as jc
from tests.laws import graph_of, toy_of
from tests.toys.record import BRANCHED, draw, rows

INPUTS = rows(4, 3)
SHAPES = {
    "a": (3, 8),
    "b": (8, 8),
    "c": (3, 6),
    "d": (6, 8),
    "bias": (8,),
    "head": (8, 2),
    "out": (8, 3),
}
VARIABLES = draw(5, SHAPES)


def without(graph: jc.Graph, names: list[str]) -> jc.Compression:
    return jc.shrink(graph, {name: np.zeros(graph.groups[name].width, bool) for name in names})


def depends(function: Any, variables: Any, inputs: tuple[Any, ...]) -> bool:
    """Tell whether some output of finite numbers is another one for other examples."""
    jitted = jax.jit(function)
    turned = [jnp.roll(each, 1, axis=0) if jnp.ndim(each) else each for each in inputs]
    one, other = (jax.tree.leaves(jitted(variables, *each)) for each in (inputs, turned))
    assert all(np.isfinite(leaf).all() for leaf in one)
    return any(np.abs(np.subtract(*pair)).max() > 1e-6 for pair in zip(one, other, strict=True))


@pytest.mark.parametrize("name", sorted(BRANCHED))
def test_all_optional_groups_may_go_together(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    prune = without(graph, graph.optional)
    assert depends(prune.function(toy.apply), prune.variables(toy.variables), toy.inputs)


def first(variables: Any, x: jax.Array) -> jax.Array:
    return jax.nn.relu(x @ variables["a"]) @ variables["b"]


def second(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ variables["c"]) @ variables["d"]


def squeezed(variables: Any, x: jax.Array, gate: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Channels scaled by what a narrow layer makes of the inputs."""
    return jax.nn.relu(x @ variables["a"]) * gate(second(variables, x)) @ variables["head"]


def stacked(variables: Any, x: jax.Array, start: jax.Array) -> jax.Array:
    """Layers on a state that is or is not the input's."""
    return lax.scan(lambda state, layer: (state + x @ layer, None), start, variables["deep"])[0]


DEEP = {"deep": rows(4, 3, 3)}
CASES: dict[str, tuple[Callable[[Any, jax.Array], jax.Array], list[str]]] = {
    "parallel": (lambda v, x: first(v, x) + second(v, x) + v["bias"], ["c[1]"]),
    "product": (lambda v, x: jax.nn.relu(x @ v["a"]) * second(v, x) @ v["head"], []),
    "quotient": (lambda v, x: second(v, x) / (1 + first(v, x) ** 2), ["a[1]"]),
    "dot of both": (lambda v, x: first(v, x) @ second(v, x).T @ x, []),
    "sigmoid": (lambda v, x: squeezed(v, x, jax.nn.sigmoid), ["c[1]"]),
    "tanh": (lambda v, x: squeezed(v, x, jnp.tanh), []),
    "relu6": (lambda v, x: squeezed(v, x, jax.nn.relu6), []),
    "hard sigmoid": (lambda v, x: squeezed(v, x, jax.nn.hard_sigmoid), ["c[1]"]),
    "biased": (lambda v, x: squeezed(v, x, lambda y: jnp.tanh(y + v["bias"])), ["c[1]"]),
    "dropped": (lambda v, x: squeezed(v, x, lambda y: jnp.where(y > 9, 0.0, y)), []),
    "film": (lambda v, x: squeezed(v, x, lambda y: 1 + y), ["c[1]"]),
    "residual": (lambda v, x: x + (first(v, x) + second(v, x)) @ v["out"], ["a[1]", "c[1]"]),
    "rank": (lambda v, x: x @ (v["a"] @ v["b"]) @ v["head"], []),
    "rank beside": (lambda v, x: x @ (v["a"] + v["c"] @ v["d"]) @ v["head"], ["c[1]"]),
    "depth": (lambda v, x: stacked(v, x, x), ["deep[0]"]),
    "depth from nothing": (lambda v, x: stacked(v, x, jnp.zeros_like(x)), []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_the_outputs_can_do_without(case: str) -> None:
    apply, expected = CASES[case]
    variables = {**VARIABLES, **DEEP}
    graph = jc.trace(apply, variables, INPUTS)
    optional = [name for name in graph.optional if name in ("a[1]", "c[1]", "deep[0]")]
    assert optional == expected
    prune = without(graph, graph.optional)
    assert depends(prune.function(apply), prune.variables(variables), (INPUTS,))
    for name in {"a[1]", "c[1]"} & set(graph.groups) - set(graph.optional):
        with pytest.raises(ValueError, match=r"graph.optional"):
            without(graph, [name])


def test_of_parallel_branches_the_widest_stays_and_selection_knows() -> None:
    apply, _ = CASES["parallel"]
    graph = jc.trace(apply, VARIABLES, INPUTS)
    scores = jc.importance.magnitude(graph, VARIABLES)
    keep = jc.select(graph, scores, jc.Budget(flops=0.1), min_width=0)
    assert {name: int(mask.sum()) for name, mask in keep.items()} == {"a[1]": 1, "c[1]": 0}
    prune = jc.shrink(graph, keep)
    assert depends(prune.function(apply), prune.variables(VARIABLES), (INPUTS,))


def test_of_overlapping_branches_the_widest_of_each_stays() -> None:
    widths = (4, 7, 5, 7, 6)
    shapes = {
        f"{name}{i}": (3, n) if name == "up" else (n, 2)
        for i, n in enumerate(widths)
        for name in ("up", "down")
    }
    variables = draw(6, shapes)

    def apply(variables: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        one, two = (
            sum(jnp.tanh(x @ variables[f"up{i}"]) @ variables[f"down{i}"] for i in part)
            for part in ((0, 1, 2), (2, 3, 4))
        )
        return one, two

    graph = jc.trace(apply, variables, INPUTS)
    assert graph.optional == ["up0[1]", "up2[1]", "up4[1]"]
