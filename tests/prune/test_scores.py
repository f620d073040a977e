"""Scores know what they are comparable by, and every selection heeds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.annotations import Array, PyTree
from jaxcompress.prune import Scores, comparable_scores, importance, per_cost, per_group
from jaxcompress.prune.candidates.local import local_search
from jaxcompress.prune.learned.hard_masks import straight_through


def apply(variables: PyTree, x: jax.Array) -> jax.Array:
    hidden = jnp.tanh(jnp.tanh(x @ variables["wide"]) @ variables["narrow"])
    return hidden @ variables["out"]


def loss(variables: PyTree, x: jax.Array) -> jax.Array:
    return jnp.square(apply(variables, x) - 1).mean()


Network: TypeAlias = tuple[PyTree, jax.Array, jc.Graph]


@pytest.fixture(scope="module")
def network() -> Network:
    """Two groups of unlike cost and unlike scale, so that raw scores choose otherwise."""
    shapes = {"wide": (3, 24), "narrow": (24, 6), "out": (6, 2)}
    random = np.random.default_rng(0)
    variables = {
        name: (random.normal(size=shape) * scale).astype(np.float32)
        for (name, shape), scale in zip(shapes.items(), (0.3, 1.0, 0.5), strict=True)
    }
    x = jax.device_put(random.normal(size=(3, 8, 3)).astype(np.float32))
    return variables, x, jc.trace(apply, variables, x[0])


def scored(name: str, network: Network) -> Scores:
    variables, x, graph = network
    if name == "magnitude":
        return importance.magnitude(graph, variables)
    if name == "taylor":
        return importance.taylor(graph, loss, variables, x)
    if name == "fisher":
        return importance.fisher(graph, loss, variables, x, key=jax.random.key(1))
    return importance.meta(graph, loss, variables, x[:, None], x)


EXPLICIT = {
    "magnitude": lambda graph, scores, kind: per_group(scores),
    "taylor": lambda graph, scores, kind: per_cost(graph, scores, kind),
    "meta": lambda graph, scores, kind: per_cost(graph, scores, kind),
    "fisher": lambda graph, scores, kind: per_cost(graph, scores, kind, power=1.5),
}


def same(left: Mapping[str, Array], right: Mapping[str, Array]) -> None:
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name])


@pytest.mark.parametrize("name", EXPLICIT)
def test_raw_scores_are_selected_as_if_made_comparable(network: Network, name: str) -> None:
    graph, raw = network[2], scored(name, network)
    assert raw.unit != "comparable"
    changed = False
    for kind in ("flops", "params"):
        explicit = EXPLICIT[name](graph, raw, kind)
        for part in (0.3, 0.5, 0.7):
            budget = jc.Budget(**{kind: part})
            keep = jc.select(graph, raw, budget)
            same(keep, jc.select(graph, explicit, budget))
            bare = jc.select(graph, dict(raw), budget)
            changed |= any(not np.array_equal(bare[n], mask) for n, mask in keep.items())
    assert changed, "bare numbers choose alike: this network tells nothing"


def test_every_selection_heeds_the_unit(network: Network) -> None:
    graph, raw = network[2], scored("magnitude", network)
    known, absolute = dict(per_group(raw)), jc.Budget(flops=0.5).of(graph)
    for selection in (jc.threshold, straight_through):
        selected = jax.jit(
            lambda scores, selection=selection: selection(graph.cost, scores, absolute)
        )
        same(selected(raw), selected(known))
    same(_selected(raw, network), _selected(known, network))


def _selected(scores: Mapping[str, Array], network: Network) -> dict[str, Array]:
    """Return the keeps of iterative selection and the scores of a local search."""
    (variables, x, graph), budget = network, jc.Budget(flops=0.5)
    keep = jc.prune.iterative(graph, lambda gates, number: scores, budget)
    given = (graph, loss, variables, scores, budget, x[0])
    result = local_search(*given, key=jax.random.key(2), candidates=4, rounds=1)
    return {**keep, **{f"local {name}": score for name, score in result.scores.items()}}


def test_explicit_and_bare_scores_are_taken_as_they_are(network: Network) -> None:
    graph, raw = network[2], scored("magnitude", network)
    for scores in (dict(raw), per_group(raw), per_cost(graph, raw, power=0.3)):
        assert comparable_scores(graph.cost, scores) is scores


def test_scores_pass_through_transformations(network: Network) -> None:
    graph, raw = network[2], scored("taylor", network)
    assert isinstance(raw, Scores)
    for changed in (
        jax.tree.map(lambda leaf: leaf, raw),
        jax.jit(lambda scores: scores)(raw),
        jax.grad(lambda scores: sum(value.sum() for value in scores.values()))(raw),
    ):
        assert (changed.unit, changed.source, changed.power) == ("raw gradient", "taylor", 1.0)
    stacked = jax.tree.map(lambda array: jnp.stack([array, array[::-1]]), raw)
    absolute = jc.Budget(flops=0.5).of(graph)
    chosen = lambda scores: jc.threshold(graph.cost, scores, absolute)  # noqa: E731
    both = jax.tree.map(np.asarray, jax.jit(jax.vmap(chosen))(stacked))
    same({n: mask[0] for n, mask in both.items()}, jax.jit(chosen)(raw))
    other = Scores(dict(reversed(list(raw.arrays.items()))), raw.source, raw.unit, raw.power)
    same(raw, jax.tree.map(lambda left, right: (left + right) / 2, raw, other))


def test_infinite_scores_stay_infinite(network: Network) -> None:
    graph, raw = network[2], scored("magnitude", network)
    name = next(iter(raw))
    pinned = Scores({**raw, name: raw[name].at[3].set(jnp.inf)}, raw.source, raw.unit)
    assert jc.select(graph, pinned, jc.Budget(flops=0.3))[name][3]
    scores = per_group(pinned)
    assert np.isinf(scores[name][3]) and np.isfinite(np.delete(scores[name], 3)).all()


def test_scores_explain_themselves(network: Network) -> None:
    raw = scored("fisher", network)
    assert repr(raw) == "Scores(fisher, 2 groups, raw gradient)"
    assert "cost of a channel ** 1.5" in str(raw) and "narrow[1]" in str(raw)
    text = []
    jax.jit(lambda scores: text.append(str(scores)))(raw)
    assert text[0].startswith("fisher, 2 groups")
