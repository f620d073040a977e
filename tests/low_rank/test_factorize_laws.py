"""The laws of `factorize` on every toy network of the law matrix that has a site to factorize."""

from __future__ import annotations

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.annotations import Function
from jaxcompress.artifact import from_spec
from jaxcompress.compression import chain
from jaxcompress.graph import Graph, trace
from jaxcompress.low_rank import factorize, truncations
from jaxcompress.paths import flatten_with_paths
from tests.laws import TOYS, close, difference, graph_of, same, toy_of


def sites_of(graph: Graph) -> list[str]:
    return [p for p, site in graph.sites.items() if site.forms and not site.other_uses]


every_toy = pytest.mark.parametrize("name", TOYS)


def choices(graph: Graph) -> list[dict[str, str]]:
    """Each site in its first form, and each in its last where that is another."""
    paths = sites_of(graph)
    if not paths:
        pytest.skip("no site to factorize")
    forms = [{p: graph.sites[p].forms[i].name for p in paths} for i in (0, -1)]
    return forms[: 1 + (forms[0] != forms[1])]


def ranks_of(graph: Graph, forms: dict[str, str], share: float) -> dict[str, int]:
    return {p: max(1, round(share * graph.sites[p].form(f).full)) for p, f in forms.items()}


def _each(functions: list[Function]) -> Function:
    """Make `g(many variables, *inputs) -> the output of each function`: one program for all."""
    return lambda many, *inputs: [f(one, *inputs) for f, one in zip(functions, many, strict=True)]


@functools.cache
def expected(name: str) -> object:
    toy = toy_of(name)
    return jax.jit(toy.apply)(toy.variables, *toy.inputs)


def test_almost_every_toy_has_a_site() -> None:
    assert sum(bool(sites_of(graph_of(name))) for name in TOYS) > 0.8 * len(TOYS)


@every_toy
def test_full_rank_is_the_identity(name: str) -> None:
    """Law 2: the function itself is the same up to rounding, and rank None changes nothing."""
    toy, graph = toy_of(name), graph_of(name)
    made = [factorize(graph, ranks_of(graph, forms, 1.0), forms) for forms in choices(graph)]
    small = [lowrank.variables(toy.variables) for lowrank in made]
    functions = [lowrank.function(toy.apply) for lowrank in made]
    for output in jax.jit(_each(functions))(small, *toy.inputs):
        close(output, expected(name), max(toy.tolerance, 2e-5))
    alone = factorize(graph, dict.fromkeys(graph.sites))
    assert alone.function(toy.apply) is toy.apply
    same(alone.variables(toy.variables), toy.variables)


@every_toy
def test_costs_are_counted_and_truncations_agree(name: str) -> None:
    """Law 4: predicted FLOPs and parameters are those of the result's own jaxpr."""
    toy, graph = toy_of(name), graph_of(name)
    functions, small, cut = [], [], []
    for forms in choices(graph):
        ranks = ranks_of(graph, forms, 0.5)
        lowrank = factorize(graph, ranks, forms)
        functions.append(lowrank.function(toy.apply))
        small.append(lowrank.variables(toy.variables))
        again = trace(functions[-1], small[-1], *toy.inputs)
        sites = [(graph.sites[p], forms[p], rank) for p, rank in ranks.items()]
        flops = sum(rank * site.form(form).flops - site.flops for site, form, rank in sites)
        params = sum(rank * site.form(form).params - site.params for site, form, rank in sites)
        assert again.flops == pytest.approx(graph.flops + flops)
        assert again.params == graph.params + params
        cut.append(jax.jit(truncations(graph, toy.variables, forms))(ranks))
    whole = [toy.apply] * len(cut)
    outputs = jax.jit(_each(functions + whole))(small + cut, *toy.inputs)
    for output, truncated in zip(outputs, outputs[len(cut) :], strict=False):
        close(output, truncated, max(toy.tolerance, 2e-5))
        if min(toy.tolerance, 1e-3) == toy.tolerance:
            assert difference(output, expected(name)) > 1e-4


@every_toy
def test_chain_is_associative_and_specs_survive_json(name: str) -> None:
    """Law 3, with two factorizations, the second of the first's factors."""
    toy, graph = toy_of(name), graph_of(name)
    forms = choices(graph)[0]
    first = factorize(graph, ranks_of(graph, forms, 0.7), forms)
    small, function = first.variables(toy.variables), first.function(toy.apply)
    middle = trace(function, small, *toy.inputs)
    inner = {p: f for p, f in choices(middle)[0].items() if p.endswith("/first")}
    second = factorize(middle, ranks_of(middle, inner, 0.6), inner)
    both = chain(first, second)
    again = from_spec(json.loads(json.dumps(dict(both.spec))))
    twice = second.variables(small)
    same(both.variables(toy.variables), twice)
    same(again.variables(toy.variables), twice)
    functions = [second.function(function), again.function(toy.apply)]
    expected_, output = jax.jit(_each(functions))([twice, twice], *toy.inputs)
    close(output, expected_, toy.tolerance)


@every_toy
def test_one_program_serves_all_ranks(name: str) -> None:
    """Law 9: jit == no jit, a vmap over ranks == a loop, one compile for all ranks."""
    toy, graph = toy_of(name), graph_of(name)
    if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(expected(name))):
        pytest.skip("the outputs are not numbers to compare")
    forms = choices(graph)[0]
    at = truncations(graph, toy.variables, forms)
    full = ranks_of(graph, forms, 1.0)
    shares = (0.3, 0.6, 1.0)
    stacked = {
        p: jnp.asarray([max(1, round(s * rank)) for s in shares]) for p, rank in full.items()
    }
    traces = []

    def cut(ranks: dict[str, jax.Array]) -> dict[str, jax.Array]:
        traces.append(1)
        leaves = flatten_with_paths(at(ranks))[0]
        return {path: leaves[path] for path in forms}

    many = jax.vmap(cut)(stacked)
    traces.clear()
    compiled = jax.jit(cut)
    for number in range(len(shares)):
        ranks = {p: values[number] for p, values in stacked.items()}
        one = compiled(ranks)
        for path in forms:
            scale = float(np.abs(np.asarray(one[path], np.float64)).max()) + 1e-6
            np.testing.assert_allclose(
                np.asarray(many[path][number], np.float64),
                np.asarray(one[path], np.float64),
                atol=1e-2 * scale if one[path].dtype == jnp.bfloat16 else 1e-5 * scale,
            )
    assert len(traces) == 1
