"""Least and largest shares of groups, and the same share of all, under a budget."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph import Cost
from jaxcompress.graph.budget import AtMost
from jaxcompress.prune import iterative, iterative_scores, threshold
from tests.prune.test_select import cost, draw

SHAPES = {"a": (7, 20), "b": (20, 12), "skip": (20, 12), "c": (12, 9), "out": (9, 3)}


def apply(variables: PyTree, x: Array) -> Array:
    h = jnp.tanh(x @ variables["a"])
    skip = jnp.tanh(h @ variables["b"]) + h @ variables["skip"]
    return jnp.tanh(skip @ variables["c"]) @ variables["out"]


@pytest.fixture(scope="module")
def graph() -> jc.Graph:
    """Groups of 20, 12 and 9 channels, a[1], b[1] and c[1]."""
    variables = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()}
    return jc.trace(apply, variables, jax.ShapeDtypeStruct((4, 7), jnp.float32))


RANGES: dict[str, tuple[Any, Any]] = {
    "least": (0.4, 1.0),
    "largest": (0.0, 0.7),
    "both": (0.3, 0.75),
    "by name": ({"a[1]": 0.5}, {"c[1]": 0.5, "b*": 0.8}),
    "all that fit": ({"*": 0.2, "b[1]": 0.5}, {"?[1]": 0.9, "a[1]": 0.6}),
}
BUDGETS = [jc.Budget(flops=0.5), jc.Budget(flops=0.7, params=0.6), jc.Budget(flops=1.0)]


def expected(name: str, kind: str) -> dict[str, float]:
    """Return the share of each group that a range says."""
    table: dict[str, dict[str, tuple[float, float, float]]] = {
        "least": {"min": (0.4, 0.4, 0.4), "max": (1, 1, 1)},
        "largest": {"min": (0, 0, 0), "max": (0.7, 0.7, 0.7)},
        "both": {"min": (0.3, 0.3, 0.3), "max": (0.75, 0.75, 0.75)},
        "by name": {"min": (0.5, 0, 0), "max": (1, 0.8, 0.5)},
        "all that fit": {"min": (0.2, 0.5, 0.2), "max": (0.6, 0.9, 0.9)},
    }
    return dict(zip(("a[1]", "b[1]", "c[1]"), table[name][kind], strict=True))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def within_shares(cost: Cost, name: str, multiple_of: int, scores: Any, ceilings: Any) -> Any:
    """Select inside jit, by one program for all budgets of the same kinds."""
    least, most = RANGES[name]
    options: dict[str, Any] = {"min_share": least, "max_share": most, "multiple_of": multiple_of}
    return threshold(cost, scores, AtMost(ceilings), **options)


@functools.partial(jax.jit, static_argnums=(0, 1))
def uniformly(cost: Cost, multiple_of: int, scores: Any, ceilings: Any) -> Any:
    """Keep the same share of all groups, inside jit."""
    return threshold(cost, scores, AtMost(ceilings), multiple_of=multiple_of, uniform=True)


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("multiple_of", [1, 3])
@pytest.mark.parametrize("name", RANGES)
def test_budget_and_shares_hold_and_no_allowed_step_fits(
    graph: jc.Graph, name: str, multiple_of: int, budget: jc.Budget
) -> None:
    least, most = RANGES[name]
    options: dict[str, Any] = {"min_share": least, "max_share": most, "multiple_of": multiple_of}
    scores = {n: np.asarray(s, np.float32) for n, s in draw(graph, 0).items()}
    keep = jc.select(graph, scores, budget, **options)
    ceilings = budget.of(graph).ceilings()
    assert all(cost(graph, kind, keep) <= limit for kind, limit in ceilings.items())
    for group, mask in keep.items():
        full, width = graph.groups[group].width, int(mask.sum())
        largest = expected(name, "max")[group] * full
        assert expected(name, "min")[group] * full <= width <= largest + 1e-9
        assert width % multiple_of == 0 or width == full
        assert scores[group][mask].min() >= scores[group][~mask].max(initial=0)
        wider = min(width + multiple_of, full)
        if width < wider <= largest:
            more = {**keep, group: np.arange(full) < wider}
            assert any(cost(graph, kind, more) > limit for kind, limit in ceilings.items())
    gates = within_shares(graph.cost, name, multiple_of, scores, dict(ceilings))
    for group, mask in keep.items():
        np.testing.assert_array_equal(gates[group], mask)


@pytest.mark.parametrize("multiple_of", [1, 4])
@pytest.mark.parametrize("part", [0.9, 0.5, 0.3, 1.0])
def test_the_same_share_of_all_is_the_largest_that_fits(
    graph: jc.Graph, part: float, multiple_of: int
) -> None:
    scores = {n: np.asarray(s, np.float32) for n, s in draw(graph, 1).items()}
    budget = jc.Budget(flops=part)
    options: dict[str, Any] = {"multiple_of": multiple_of, "uniform": True}
    keep = jc.select(graph, scores, budget, **options)

    def keep_at(share: float) -> dict[str, np.ndarray]:
        """All groups at the largest allowed width of a share."""
        widths = {}
        for group, mask in keep.items():
            full = len(mask)
            allowed = np.append(np.arange(multiple_of, full, multiple_of), full)
            below = allowed[allowed / full <= share]
            widths[group] = np.arange(full) < max(below, default=allowed[0])
        return widths

    shares = sorted({w / len(mask) for mask in keep.values() for w in range(1, len(mask) + 1)})
    fitting = [s for s in shares if cost(graph, "flops", keep_at(s)) <= part * graph.flops]
    for group, mask in keep_at(max(fitting)).items():
        assert mask.sum() == keep[group].sum()
        assert scores[group][keep[group]].min() >= scores[group][~keep[group]].max(initial=0)
    ceilings = budget.of(graph).ceilings()
    gates = uniformly(graph.cost, multiple_of, scores, dict(ceilings))
    for group, mask in keep.items():
        np.testing.assert_array_equal(gates[group], mask)


def test_the_same_share_within_limits_and_protection(graph: jc.Graph) -> None:
    keep = jc.select(
        graph,
        draw(graph, 2),
        jc.Budget(flops=0.6),
        uniform=True,
        min_share={"a[1]": 0.8},
        max_share={"b[1]": 0.4},
        protect=["out"],
    )
    widths = {group: int(mask.sum()) for group, mask in keep.items()}
    assert widths["a[1]"] >= 16 and widths["b[1]"] <= 4 and widths["c[1]"] == 9


def test_optional_groups_may_go_as_a_whole() -> None:
    def residual(variables: PyTree, x: Array) -> Array:
        x = x @ variables["in"]
        x = x + jnp.tanh(x @ variables["up"]) @ variables["down"]
        return x @ variables["out"]

    shapes = {"in": (5, 6), "up": (6, 8), "down": (8, 6), "out": (6, 2)}
    variables = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()}
    graph = jc.trace(residual, variables, jax.ShapeDtypeStruct((3, 5), jnp.float32))
    assert graph.optional == ["up[1]"]
    scores, whole = {"up[1]": np.arange(8.0)}, jc.Budget(flops=1.0)
    keep = jc.select(graph, scores, whole, min_width=0, max_share={"up[1]": 0.0})
    assert not keep["up[1]"].any()
    with pytest.raises(ValueError, match=r"up\[1\]: at least 1 and at most 0 of 8"):
        jc.select(graph, scores, whole, max_share=0.0)
    assert jc.select(graph, scores, whole, min_width=0, uniform=True)["up[1]"].all()
    few = jc.Budget(flops=0.5)
    assert not jc.select(graph, scores, few, min_width=0, uniform=True)["up[1]"].all()
    # Of a group that goes as a whole there is nothing that stays, to be put above it.
    order = iterative_scores(
        graph, lambda gates, number: scores, few, rounds=2, min_width=0, max_share=0.0
    )
    np.testing.assert_array_equal(order["up[1]"], scores["up[1]"])


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "no such group": ({"min_share": {"zz*": 0.1}}, r"\['zz\*'\] of min_share= match none"),
    "not between": (
        {"min_share": {"a[1]": 0.6}, "max_share": 0.5},
        r"a\[1\]: at least 12 and at most 10 of 20",
    ),
    "no multiple": (
        {"multiple_of": 8, "min_share": 0.45, "max_share": {"b[1]": 0.6}},
        r"b\[1\]: at least 8 and at most 0 of 12 channels, in steps of 8",
    ),
    "least too dear": ({"min_share": 0.9}, "smallest reachable"),
    "too large": ({"max_share": 1.5}, "max_share must be a finite number of 0 to 1, but is 1.5"),
    "too small": (
        {"min_share": {"a*": -1}},
        "min_share must be by name: for a\\* .* 0 to 1, but is -1",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_is_named(graph: jc.Graph, name: str) -> None:
    options, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        jc.select(graph, draw(graph, 0), jc.Budget(flops=0.4), **options)


@pytest.mark.parametrize(
    "options", [{"min_share": 0.3, "max_share": {"a*": 0.6}}, {"uniform": True}], ids=str
)
def test_rounds_of_removal_hold_the_shares(graph: jc.Graph, options: dict[str, Any]) -> None:
    scores = draw(graph, 4)

    def score(gates: Mapping[str, Array], number: int) -> Mapping[str, Array]:
        return {name: scores[name] * np.asarray(gates[name]) for name in scores}

    keep = iterative(graph, score, jc.Budget(flops=0.5), rounds=3, **options)
    once = jc.select(graph, scores, jc.Budget(flops=0.5), **options)
    assert {n: m.sum() for n, m in keep.items()} == {n: m.sum() for n, m in once.items()}
    order = iterative_scores(graph, score, jc.Budget(flops=0.5), rounds=3, **options)
    assert all(np.isfinite(values).all() for values in order.values())


def test_the_recipe_holds_the_shares() -> None:
    keys = jax.random.split(jax.random.key(0), 6)
    pairs = zip(keys, SHAPES.items(), strict=False)
    variables = {name: jax.random.normal(key, shape) for key, (name, shape) in pairs}
    batches = [jax.random.normal(keys[5], (16, 7))]
    magnitude = jc.recipes.Magnitude()
    for options in ({"min_share": 0.4, "max_share": {"a[1]": 0.5}}, {"uniform": True}):
        given: dict[str, Any] = {"groups": "all", "importance": magnitude, "key": keys[0]}
        compression = jc.recipes.prune(
            apply, variables, batches, jc.Budget(flops=0.5), **given, **options
        )
        small = compression.variables(variables)
        widths = small["a"].shape[1], small["b"].shape[1], small["c"].shape[1]
        if "uniform" in options:
            shares = np.array(widths) / (20, 12, 9)
            assert np.ptp(shares) <= 1 / 9
        else:
            assert 8 <= widths[0] <= 10 and widths[1] >= 5 and widths[2] >= 4
