"""The law of names: renaming leaves, or giving dicts in another order, changes no decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcompress import Budget, factorize, importance, recipes, select, shrink, sparse
from jaxcompress.graph import flatten_with_paths, natural_order
from jaxcompress.low_rank import output_covariances
from jaxcompress.prune.learned import learn, straight_through
from tests.laws import close
from tests.toys.order import BUDGET, Case, Pair, every_network, pair_of, reordered

KEY = jax.random.key(0)


@every_network
def test_groups_and_costs_have_no_names_in_them(name: str) -> None:
    pair = pair_of(name)
    groups = pair.groups()
    assert len(groups) == len(pair.old.graph.groups) > 3
    assert list(groups) != sorted(groups, key=natural_order)
    assert list(groups.values()) == list(pair.old.graph.groups)
    assert pair.new.graph.flops == pair.old.graph.flops
    assert pair.translated(pair.new.graph.uses) == pair.old.graph.uses


def _scores_of(case: Case, method: str) -> Mapping[str, Any]:
    graph, variables, batches = case.graph, case.variables, case.inputs[None].repeat(2, 0)
    if method == "magnitude":
        return importance.magnitude(graph, variables, coupled=True)
    if method == "taylor":
        return importance.taylor(graph, case.loss, variables, batches)
    if method == "fisher":
        return importance.fisher(graph, case.loss, variables, batches, key=KEY, keep=(1.0, 1.0))
    return importance.meta(graph, case.loss, variables, batches[:, None], batches)


@every_network
@pytest.mark.parametrize("method", ["magnitude", "taylor", "fisher", "meta"])
def test_scores(name: str, method: str) -> None:
    old, new, _ = pair = pair_of(name)
    expected = _scores_of(old, method)
    scores = {pair.groups()[group]: score for group, score in _scores_of(new, method).items()}
    close(scores, expected, 1e-4)


def _by_group(pair: Pair, keeps: Mapping[str, Any]) -> dict[str, Any]:
    return {pair.groups()[group]: np.asarray(value).tolist() for group, value in keeps.items()}


DRAWN: dict[str, Callable[[Case], Mapping[str, Any]]] = {
    "random": lambda case: importance.random(case.graph, KEY),
    "masks": lambda case: importance.random_masks(case.graph, KEY),
    "masks of some": lambda case: importance.random_masks(
        case.graph, KEY, groups=list(case.graph.groups)[::-1]
    ),
    "equal scores": lambda case: select(
        case.graph,
        {name: np.ones(group.width) for name, group in case.graph.groups.items()},
        Budget(flops=0.5),
    ),
}


@every_network
@pytest.mark.parametrize("drawn", DRAWN)
def test_what_is_drawn_or_equally_good(name: str, drawn: str) -> None:
    old, new, _ = pair = pair_of(name)
    expected = {group: np.asarray(value).tolist() for group, value in DRAWN[drawn](old).items()}
    assert _by_group(pair, DRAWN[drawn](new)) == expected


def test_channels_kept_by_a_fisher_score_at_random_masks() -> None:
    old, new, _ = pair = pair_of("attention")

    def kept(case: Case) -> Mapping[str, Any]:
        batches = case.inputs[None].repeat(2, 0)
        scores = importance.fisher(case.graph, case.loss, case.variables, batches, key=KEY)
        return select(case.graph, scores, Budget(flops=0.6))

    assert _by_group(pair, kept(new)) == {n: mask.tolist() for n, mask in kept(old).items()}


def test_channels_kept_by_the_recipe() -> None:
    old, new, _ = pair = pair_of("attention")

    def pruned(case: Case) -> dict[str, Any]:
        given = case.apply, case.variables, [case.inputs], Budget(flops=0.6)
        importance = recipes.Learned(steps=1)
        prune = recipes.prune(*given, key=KEY, importance=importance, distance="values")
        return {path: leaf["keep"] for path, leaf in prune.spec["leaves"].items()}

    assert pair.translated(pruned(new)) == pruned(old)


def _random_scores(case: Case) -> dict[str, jax.Array]:
    generator = np.random.default_rng(0)
    groups = case.graph.groups.items()
    return {name: jnp.asarray(generator.random(group.width)) for name, group in groups}


@every_network
def test_selected_channels_and_what_is_left_of_the_variables(name: str) -> None:
    old, new, _ = pair = pair_of(name)
    scores = _random_scores(old)
    renamed = {group: scores[old_group] for group, old_group in pair.groups().items()}
    expected = select(old.graph, scores, Budget(flops=0.5))
    for given in (renamed, reordered(renamed), dict(sorted(renamed.items()))):
        keep = select(new.graph, given, Budget(flops=0.5))
        assert {pair.groups()[group]: mask.tolist() for group, mask in keep.items()} == {
            group: mask.tolist() for group, mask in expected.items()
        }
    left = flatten_with_paths(shrink(new.graph, reordered(keep)).variables(new.variables))[0]
    small = flatten_with_paths(shrink(old.graph, expected).variables(old.variables))[0]
    close(dict(sorted(pair.translated(left).items())), small, 0.0)


@every_network
def test_factors(name: str) -> None:
    old, new, _ = pair = pair_of(name)
    chosen = {path: 1 + i % 3 for i, path in enumerate(old.forms)}
    renamed = reordered({path: chosen[pair.paths[path]] for path in new.forms})
    lowrank = factorize(new.graph, renamed, reordered(new.forms))
    small = factorize(old.graph, chosen, old.forms).variables(old.variables)
    factors = flatten_with_paths(lowrank.variables(new.variables), whole=renamed)[0]
    expected = flatten_with_paths(small, whole=chosen)[0]
    close(dict(sorted(pair.translated(factors).items())), expected, 1e-5)


def test_output_covariances() -> None:
    old, new, _ = pair = pair_of("attention")
    given = [(c.graph, c.apply, c.variables, [c.inputs], reordered(c.forms)) for c in pair[:2]]
    expected, covariances = (output_covariances(*arguments, key=KEY) for arguments in given)
    close(dict(sorted(pair.translated(covariances).items())), expected, 1e-5)


@every_network
def test_straight_through_gates(name: str) -> None:
    case = pair_of(name).old
    scores, budget = _random_scores(case), BUDGET.of(case.graph)
    weights = {group: jnp.cos(1.0 + jnp.arange(len(score))) for group, score in scores.items()}

    def value(trial: dict[str, jax.Array]) -> jax.Array:
        gates = straight_through(case.graph.cost, trial, budget)
        return sum((weights[group] @ gate for group, gate in gates.items()), jnp.zeros(()))

    # Straight from `jax.grad` keys are sorted; inside an unsorted dict is seen as it is.
    total, slopes = jax.jit(jax.value_and_grad(lambda trial: value(reordered(trial))))(scores)
    expected, right = jax.jit(jax.value_and_grad(value))(dict(sorted(scores.items())))
    assert float(total) == pytest.approx(float(expected), rel=1e-6)
    close(slopes, right, 1e-5)


def test_learned_gates() -> None:
    case = pair_of("attention").old
    pair = learn(case.graph, case.loss, BUDGET, steps=2)
    scores = dict(sorted(_random_scores(case).items()))
    learned = []
    for given in (scores, reordered(scores)):
        state, _ = pair.update(pair.init(given), case.variables, case.inputs)
        learned.append(dict(sorted(pair.scores(state).items())))
    close(learned[1], learned[0], 1e-5)


@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_random_masks_and_equal_weights(scope: Any) -> None:
    old, new, _ = pair = pair_of("convolutions")

    def masks(case: Case) -> dict[str, Any]:
        equal = jax.tree.map(jnp.ones_like, case.variables)
        given: dict[str, Any] = {"scope": scope, "graph": case.graph}
        drawn = sparse.make_masks(case.variables, 0.6, score=sparse.random, key=KEY, **given)
        of_equal = sparse.make_masks(equal, 0.6, **given)
        both = {path: (drawn[path], of_equal[path]) for path in drawn}
        return {path: [np.asarray(m).tolist() for m in pair] for path, pair in both.items()}

    assert pair.translated(masks(new)) == masks(old)


def test_masks_that_grow_again_at_random() -> None:
    old, new, _ = pair = pair_of("convolutions")

    def masks(case: Case) -> dict[str, Any]:
        schedule = sparse.schedule.periodic(0.5, end=2, every=1)
        tx = sparse.sparse_optimizer(
            optax.sgd(0.1), schedule, regrow=sparse.set_regrow(0.5), key=KEY, graph=case.graph
        )
        state = tx.init(case.variables)
        for _ in range(3):
            gradients = jax.tree.map(jnp.ones_like, case.variables)
            _, state = jax.jit(tx.update)(gradients, state, case.variables)
        return {p: np.asarray(mask).tolist() for p, mask in sparse.masks_of(state).items()}

    assert pair.translated(masks(new)) == masks(old)


@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_masks(scope: Any) -> None:
    old, new, _ = pair = pair_of("convolutions")
    expected = sparse.make_masks(old.variables, 0.6, scope=scope)
    masks = pair.translated(sparse.make_masks(new.variables, 0.6, scope=scope))
    assert {path: np.asarray(mask).tolist() for path, mask in masks.items()} == {
        path: np.asarray(mask).tolist() for path, mask in expected.items()
    }
