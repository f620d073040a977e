"""Laws of `factorize`, on every kind of site: identity, monotone error, counted costs, records."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.artifact import from_spec
from jaxcompress.graph import trace
from jaxcompress.low_rank import factorize, truncations
from jaxcompress.low_rank.statistics import input_roots
from jaxcompress.paths import flatten_with_paths
from tests.low_rank.sites import TOYS, distance, every_form, ranks_of, traced
from tests.trees import structure_of


@pytest.mark.parametrize("name", TOYS)
def test_full_rank_is_the_identity_and_no_rank_too(name: str) -> None:
    toy, graph = traced(name)
    expected = toy.apply(toy.variables, *toy.inputs)
    assert graph.sites
    for forms in every_form(graph):
        lowrank = factorize(graph, ranks_of(graph, forms, 1.0), forms)
        outputs = lowrank.function(toy.apply)(lowrank.variables(toy.variables), *toy.inputs)
        assert outputs.shape == expected.shape and outputs.dtype == expected.dtype
        assert distance(outputs, expected) < toy.tolerance
    alone = factorize(graph, dict.fromkeys(graph.sites))
    assert alone.function(toy.apply) is toy.apply
    assert structure_of(alone.variables(toy.variables)) == structure_of(toy.variables)


@pytest.mark.parametrize("name", TOYS)
def test_counted_costs_are_those_of_the_result(name: str) -> None:
    toy, graph = traced(name)
    for forms in every_form(graph):
        ranks = ranks_of(graph, forms, 0.5)
        lowrank = factorize(graph, ranks, forms)
        small = trace(lowrank.function(toy.apply), lowrank.variables(toy.variables), *toy.inputs)
        sites = [(graph.sites[path], form, ranks[path]) for path, form in forms.items()]
        flops = sum(rank * site.form(form).flops - site.flops for site, form, rank in sites)
        params = sum(rank * site.form(form).params - site.params for site, form, rank in sites)
        assert small.flops == pytest.approx(graph.flops + flops)
        assert small.params == graph.params + params


@pytest.mark.parametrize("name", TOYS)
def test_kernels_err_less_at_every_higher_rank(name: str) -> None:
    toy, graph = traced(name)
    leaves, _ = flatten_with_paths(toy.variables)
    for forms in every_form(graph):
        at = truncations(graph, toy.variables, forms)
        for path, form in forms.items():
            full = graph.sites[path].form(form).full
            errors = [
                float(jnp.linalg.norm(flatten_with_paths(at({path: r}))[0][path] - leaves[path]))
                for r in range(1, full + 1)
            ]
            assert (np.diff(errors) < 1e-5).all()
            assert errors[-1] < 1e-4 * float(jnp.linalg.norm(leaves[path]))


@pytest.mark.parametrize("name", TOYS)
def test_truncated_kernels_give_the_factorized_function(name: str) -> None:
    toy, graph = traced(name)
    for forms in every_form(graph):
        ranks = ranks_of(graph, forms, 0.4)
        lowrank = factorize(graph, ranks, forms)
        expected = lowrank.function(toy.apply)(lowrank.variables(toy.variables), *toy.inputs)
        truncated = truncations(graph, toy.variables, forms)(ranks)
        assert distance(toy.apply(truncated, *toy.inputs), expected) < toy.tolerance


@pytest.mark.parametrize("name", TOYS)
def test_spec_survives_json_and_jit_changes_nothing(name: str) -> None:
    toy, graph = traced(name)
    forms = next(every_form(graph))
    lowrank = factorize(graph, ranks_of(graph, forms, 0.5), forms)
    again = from_spec(json.loads(json.dumps(dict(lowrank.spec))))
    assert dict(again.spec) == dict(lowrank.spec)
    small = lowrank.variables(toy.variables)
    jax.tree.map(np.testing.assert_array_equal, again.variables(toy.variables), small)
    f, g = lowrank.function(toy.apply), jax.jit(again.function(toy.apply))
    assert distance(g(small, *toy.inputs), f(small, *toy.inputs)) < toy.tolerance


@pytest.mark.parametrize("name", TOYS)
def test_gradients_reach_both_factors(name: str) -> None:
    toy, graph = traced(name)
    lowrank = factorize(graph, ranks_of(graph, next(every_form(graph)), 0.5))
    small = lowrank.variables(toy.variables)
    f = lowrank.function(toy.apply)
    gradients = jax.grad(lambda tree: (f(tree, *toy.inputs) ** 2).mean())(small)
    assert structure_of(gradients) == structure_of(small)
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("name", [name for name in TOYS if name != "transposed"])
def test_roots_lower_the_error_on_their_data(name: str) -> None:
    toy, graph = traced(name)
    (inputs,) = toy.inputs
    skewed = (
        inputs * jnp.geomspace(1, 0.01, 6)[:, None, None]
        if name == "channels_first"
        else (inputs * jnp.geomspace(1, 0.01, 6))
    )
    for forms in every_form(graph):
        if len(forms) > 1:
            continue
        roots = input_roots(graph, toy.apply, toy.variables, [skewed], forms, ridge=1e-6)
        ranks = ranks_of(graph, forms, 0.4)
        expected = toy.apply(toy.variables, skewed)
        errors = [
            float(
                (
                    (
                        toy.apply(truncations(graph, toy.variables, forms, chosen)(ranks), skewed)
                        - expected
                    )
                    ** 2
                ).sum()
            )
            for chosen in (None, roots)
        ]
        assert errors[1] < errors[0]
