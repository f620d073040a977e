"""A batch that is no number yet: traced, and exported after every compression."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxcompress.graph import trace
from jaxcompress.low_rank import factorize
from jaxcompress.prune import gated, shrink
from tests.laws import close, gates_of, graph_of, random_keep, toy_of

NAMES = """
flatten concatenation channel_shuffle fused_attention multi_query gated_linear_unit scanned
bfloat16 linen_norms nnx_model
""".split()


def batched(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the inputs as abstract values with a symbolic batch axis."""
    (b,) = export.symbolic_shape("b")
    return tuple(jax.ShapeDtypeStruct((b, *x.shape[1:]), x.dtype) for x in inputs)


def exported(function: Any, variables: Any, *inputs: Any) -> Any:
    """Run a function as it is exported with a symbolic batch."""
    leaves = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
    return export.export(jax.jit(function))(leaves, *batched(inputs)).call(variables, *inputs)


@pytest.mark.parametrize("name", NAMES)
def test_a_symbolic_batch_costs_what_one_example_costs(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    symbolic = trace(toy.apply, toy.variables, *batched(toy.inputs))
    assert list(symbolic.groups) == list(graph.groups)
    assert symbolic.streams == graph.streams
    keep = random_keep(graph)
    for kind in ("flops", "params", "bytes"):
        costs = [getattr(g.cost, kind)(g.cost.widths(keep)) for g in (symbolic, graph)]
        assert costs[0] == pytest.approx(costs[1], rel=1e-12)
    assert list(symbolic.sites) == list(graph.sites)
    for path, site in symbolic.sites.items():
        other = graph.sites[path]
        assert site.flops == pytest.approx(other.flops) and site.layout == other.layout


@pytest.mark.parametrize("name", NAMES)
def test_a_shrunk_function_is_exported_with_a_symbolic_batch(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    prune = shrink(graph, random_keep(graph))
    small, function = prune.variables(toy.variables), jax.jit(prune.function(toy.apply))
    close(exported(function, small, *toy.inputs), function(small, *toy.inputs), 1e-6)


@pytest.mark.parametrize("name", ["linen_norms", "fused_attention"])
def test_gated_and_factorized_functions_too(name: str) -> None:
    toy, graph = toy_of(name), graph_of(name)
    gates = gates_of(graph, random_keep(graph))
    with_gates = jax.jit(lambda v, *inputs: gated(graph, toy.apply)(v, gates, *inputs))
    output = exported(with_gates, toy.variables, *toy.inputs)
    close(output, with_gates(toy.variables, *toy.inputs), 1e-6)
    ranks = {p: 1 for p, site in graph.sites.items() if site.forms and not site.other_uses}
    lowrank = factorize(graph, ranks)
    small, function = lowrank.variables(toy.variables), jax.jit(lowrank.function(toy.apply))
    close(exported(function, small, *toy.inputs), function(small, *toy.inputs), 1e-6)


def sliced(variables: Any, x: jax.Array) -> jax.Array:
    """Cut channels by ranges and by index, and divide by means over batch and channels."""
    hidden = jnp.tanh(x @ variables["a"])
    parts = hidden[:, :4] * hidden[:, 4:] / (1 + jnp.mean(jnp.square(hidden[:, 4:])))
    tokens = jnp.tile(parts, (2, 1))[: x.shape[0]] + parts.mean(1, keepdims=True)
    rows = jnp.stack([tokens, tokens], 1).reshape(-1, 4) @ variables["b"]
    return rows.reshape(x.shape[0], 2, -1)[:, 0]


VARIABLES = {
    name: jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    for name, shape in {"a": (3, 8), "b": (4, 2)}.items()
}
ROWS = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3)), jnp.float32)


def test_ranges_and_means_are_seen_through() -> None:
    graph = trace(sliced, VARIABLES, ROWS)
    assert list(graph.groups) == ["a[1]"]
    assert list(trace(sliced, VARIABLES, *batched((ROWS,))).groups) == ["a[1]"]
    prune = shrink(graph, {"a[1]": np.array([True, False, True, False])})
    small, function = prune.variables(VARIABLES), jax.jit(prune.function(sliced))
    close(exported(function, small, ROWS), function(small, ROWS), 1e-6)


def test_what_is_no_number_at_one_example_is_refused() -> None:
    b, t = export.symbolic_shape("b, t")
    apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["a"].T  # noqa: E731
    with pytest.raises(ValueError, match=r"only the axis of examples .*input 0: \(b, t, 3\)"):
        trace(apply, VARIABLES, jax.ShapeDtypeStruct((b, t, 3), jnp.float32))
    two = jax.ShapeDtypeStruct((b, 3), jnp.float32), jax.ShapeDtypeStruct((t, 3), jnp.float32)
    with pytest.raises(ValueError, match=r"input 0: \(b, 3\); input 1: \(t, 3\)"):
        trace(lambda variables, x, y: apply(variables, x), VARIABLES, *two)
    twice = lambda variables, x: apply(variables, jnp.concatenate([x, x[:1]]))  # noqa: E731
    with pytest.raises(ValueError, match=r"depend on b otherwise: .*test_symbolic"):
        trace(twice, VARIABLES, two[0])


def test_gates_of_each_example_need_a_number_of_them() -> None:
    apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["a"].T  # noqa: E731
    graph = trace(apply, VARIABLES, ROWS)
    name = next(iter(graph.groups))
    function = lambda v, x: gated(graph, apply)(v, {name: jnp.ones((len(ROWS), 8))}, x)  # noqa: E731
    with pytest.raises(ValueError, match="gates of each example need .* example axis"):
        exported(function, VARIABLES, ROWS)
