"""Law 5: `select` fills its budget exactly, and its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.annotations import Function, PyTree
from jaxcompress.prune import channel_costs, per_cost, per_group


@pytest.fixture(scope="module")
def graph() -> jc.Graph:
    """Two hidden layers and a skip connection: groups of 20, 12 and 9 channels."""

    def apply(variables: PyTree, x: jax.Array) -> jax.Array:
        h = jnp.tanh(x @ variables["a"])
        skip = jnp.tanh(h @ variables["b"]) + h @ variables["skip"]
        return jnp.tanh(skip @ variables["c"]) @ variables["out"]

    shapes = {"a": (7, 20), "b": (20, 12), "skip": (20, 12), "c": (12, 9), "out": (9, 3)}
    variables = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    return jc.trace(apply, variables, jax.ShapeDtypeStruct((4, 7), jnp.float32))


def draw(graph: jc.Graph, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.random(group.width) for name, group in graph.groups.items()}


def cost(graph: jc.Graph, kind: str, keep: Mapping[str, np.ndarray]) -> float:
    return float(graph.cost.of(kind, graph.cost.widths(keep)))


BUDGETS = [
    jc.Budget(flops=0.5),
    jc.Budget(params=0.3),
    jc.Budget(flops=0.7, params=0.4),
    jc.Budget(flops=611),
    jc.Budget(bytes=900),
    jc.Budget(flops=1.0),
]


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("multiple_of", [1, 4])
def test_fills_the_budget_and_no_more(graph: jc.Graph, budget: jc.Budget, multiple_of: int) -> None:
    scores = draw(graph, 0)
    keep = jc.select(graph, scores, budget, multiple_of=multiple_of)
    ceilings = budget.of(graph).ceilings()
    assert all(cost(graph, kind, keep) <= limit for kind, limit in ceilings.items())
    for name, mask in keep.items():
        width, full = mask.sum(), graph.groups[name].width
        assert 1 <= width and (width % multiple_of == 0 or width == full)
        step = min(multiple_of, full - width)
        if step:
            wider = {**keep, name: np.arange(full) < width + step}
            assert any(cost(graph, kind, wider) > limit for kind, limit in ceilings.items())


@pytest.mark.parametrize("seed", range(3))
def test_greedy_keeps_are_nested(graph: jc.Graph, seed: int) -> None:
    scores = draw(graph, seed)
    budgets = [0.9, 0.6, 0.45, 0.3, 0.15]
    keeps = [jc.select(graph, scores, jc.Budget(flops=b), fill=False) for b in budgets]
    for larger, smaller in zip(keeps, keeps[1:], strict=False):
        assert all((smaller[name] <= larger[name]).all() for name in larger)


def test_keeps_the_best_of_each_group(graph: jc.Graph) -> None:
    scores = draw(graph, 1)
    for name, mask in jc.select(graph, scores, jc.Budget(flops=0.4)).items():
        assert scores[name][mask].min() >= scores[name][~mask].max(initial=0)


def test_ties_go_by_index(graph: jc.Graph) -> None:
    scores = {name: np.ones(group.width) for name, group in graph.groups.items()}
    for mask in jc.select(graph, scores, jc.Budget(flops=0.5)).values():
        assert (np.diff(mask.astype(int)) <= 0).all()


@pytest.fixture(scope="module")
def alike() -> jc.Graph:
    """Three groups of 12 channels."""

    def apply(variables: PyTree, x: jax.Array) -> jax.Array:
        for name in ("a", "b", "c"):
            x = jnp.tanh(x @ variables[name])
        return x @ variables["out"]

    shapes = {"a": (7, 12), "b": (12, 12), "c": (12, 12), "out": (12, 3)}
    variables = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    return jc.trace(apply, variables, jax.ShapeDtypeStruct((4, 7), jnp.float32))


@pytest.mark.parametrize("value", [0.0, 0.1, np.inf, -np.inf])
@pytest.mark.parametrize("multiple_of", [1, 5])
def test_equal_scores_are_spread_over_groups(
    alike: jc.Graph, graph: jc.Graph, value: float, multiple_of: int
) -> None:
    for traced in (alike, graph):
        scores = {name: np.full(group.width, value) for name, group in traced.groups.items()}
        budget = jc.Budget(flops=0.5)
        keep = jc.select(traced, scores, budget, multiple_of=multiple_of, fill=False)
        lost = {name: 1 - mask.mean() for name, mask in keep.items()}
        steps = {name: multiple_of / group.width for name, group in traced.groups.items()}
        assert max(lost.values()) - min(lost.values()) <= max(steps.values()) + 1e-9


def test_equal_scores_keep_equal_widths(alike: jc.Graph) -> None:
    scores = {name: np.ones(12) for name in alike.groups}
    keep = jc.select(alike, scores, jc.Budget(flops=0.5), fill=False)
    assert [int(mask.sum()) for mask in keep.values()] == [8, 8, 7]


@pytest.mark.parametrize("multiple_of", [1, 4])
@pytest.mark.parametrize("infinite", ["a[1]", "b[1]", "c[1]"])
def test_infinite_scores_displace_nothing_that_is_forced(
    alike: jc.Graph, infinite: str, multiple_of: int
) -> None:
    scores = {**draw(alike, 4), infinite: np.full(12, np.inf)}
    protect = {"a[1]": "a", "b[1]": "out", "c[1]": "a"}[infinite]
    options: dict[str, Any] = {"min_width": 2, "multiple_of": multiple_of, "protect": [protect]}
    budget = jc.Budget(flops=0.6)
    keep = jc.select(alike, scores, budget, **options)
    safe = [n for n, g in alike.groups.items() if any(m.path == protect for m in g.members)]
    assert all(mask.sum() >= 2 for mask in keep.values())
    assert all(keep[name].all() for name in safe)
    large = {**scores, infinite: np.full(12, 1e30)}
    for name, mask in jc.select(alike, large, budget, **options).items():
        np.testing.assert_array_equal(mask, keep[name])


def test_single_infinite_scores_are_first_and_last(alike: jc.Graph) -> None:
    scores = draw(alike, 5)
    scores["a[1]"][[3, 7]], scores["a[1]"][[0, 5]] = np.inf, -np.inf
    for multiple_of in (1, 4):
        keep = jc.select(alike, scores, jc.Budget(flops=0.5), multiple_of=multiple_of)["a[1]"]
        assert keep[[3, 7]].all() and not keep[[0, 5]].any()


def test_minimum_width_and_protection(graph: jc.Graph) -> None:
    scores = draw(graph, 2)
    keep = jc.select(graph, scores, jc.Budget(flops=0.5), min_width=5, protect=("c",))
    touching = [n for n, g in graph.groups.items() if any(m.path == "c" for m in g.members)]
    assert all(keep[name].all() for name in touching)
    assert all(mask.sum() >= 5 for mask in keep.values())


def test_unscored_groups_stay_whole(graph: jc.Graph) -> None:
    name = next(iter(graph.groups))
    keep = jc.select(graph, {name: np.arange(graph.groups[name].width)}, jc.Budget(flops=0.8))
    assert list(keep) == [name]
    assert cost(graph, "flops", keep) <= 0.8 * graph.flops


def test_traced_equals_host_and_vmaps(graph: jc.Graph) -> None:
    budget = jc.Budget(flops=0.5).of(graph)
    candidates = [draw(graph, seed) for seed in range(4)]
    stacked = jax.tree.map(lambda *s: jnp.asarray(np.stack(s), jnp.float32), *candidates)
    gates = jax.jit(jax.vmap(lambda s: jc.threshold(graph.cost, s, budget)))(stacked)
    for number, scores in enumerate(candidates):
        keep = jc.select(graph, jax.tree.map(np.float32, scores), jc.Budget(flops=0.5))
        for name, mask in keep.items():
            np.testing.assert_array_equal(gates[name][number], mask)


@pytest.mark.parametrize("value", [1.0, np.inf, -np.inf])
def test_traced_equals_host_with_ties_and_infinite_scores(graph: jc.Graph, value: float) -> None:
    scores = {name: score.round(1) for name, score in draw(graph, 6).items()}
    scores["a[1]"][::3] = value
    gates = jax.jit(lambda s: jc.threshold(graph.cost, s, jc.Budget(flops=0.5).of(graph)))(scores)
    for name, mask in jc.select(graph, scores, jc.Budget(flops=0.5)).items():
        np.testing.assert_array_equal(gates[name], mask)


def test_channel_costs_are_differences(graph: jc.Graph) -> None:
    for kind in ("flops", "params"):
        for name, saved in channel_costs(graph, kind).items():
            fewer = {name: np.arange(graph.groups[name].width) > 0}
            assert saved == cost(graph, kind, {}) - cost(graph, kind, fewer)


def test_normalisation(graph: jc.Graph) -> None:
    scores = draw(graph, 3)
    for score in per_group(scores).values():
        np.testing.assert_allclose(np.abs(score).mean(), 1)
    costs = channel_costs(graph)
    for name, score in per_cost(graph, scores, power=0.5).items():
        np.testing.assert_allclose(score * costs[name] ** 0.5, scores[name])
    assert not per_group({"dead": np.zeros(3)})["dead"].any()


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda s: {**s, "nope": np.ones(3)}, {}, r"scores names groups.*'nope'"),
        (lambda s: {**s, "a[1]": np.ones(3)}, {}, r"a\[1\]: \(3,\) instead of \(20,\)"),
        (lambda s: {**s, "a[1]": np.full(20, np.nan)}, {}, r"NaN entries per group: a\[1\]: 20"),
        (lambda s: s, {"budget": jc.Budget(flops=1.5)}, "smallest reachable"),
        (lambda s: s, {"protect": ("b", "zzz*")}, r"\['zzz\*'\] match none"),
        (lambda s: s, {"multiple_of": 0}, "at least 1"),
        (lambda s: s, {"budget": jc.Budget(flops=0.5), "protect": ("*",)}, "smallest reachable"),
    ],
)
def test_errors(graph: jc.Graph, change: Function, arguments: dict[str, Any], message: str) -> None:
    arguments = {"budget": jc.Budget(flops=0.5), **arguments}
    with pytest.raises(ValueError, match=message):
        jc.select(graph, change(draw(graph, 0)), **arguments)


def test_types_that_would_be_read_otherwise(graph: jc.Graph) -> None:
    part: Any = 0.5
    with pytest.raises(TypeError, match=r"must be a Budget, but is 0\.5"):
        jc.select(graph, draw(graph, 0), part)
    with pytest.raises(TypeError, match="protect must be a list of patterns, but is 'c'"):
        jc.select(graph, draw(graph, 0), jc.Budget(flops=0.5), protect="c")


@pytest.mark.parametrize("ceilings", [{}, {"flops": 0}, {"flops": -1}, {"params": float("nan")}])
def test_meaningless_budgets(ceilings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="ceiling"):
        jc.Budget(**ceilings)


def test_selects_where_no_cpu_is_there(graph: jc.Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {name: np.arange(group.width) for name, group in graph.groups.items()}
    expected = jc.select(graph, scores, jc.Budget(flops=0.5))
    local_devices = jax.local_devices

    def without_cpu(backend: str | None = None) -> list[jax.Device]:
        if backend == "cpu":
            raise RuntimeError("Unknown backend cpu")
        return local_devices()

    monkeypatch.setattr(jax, "local_devices", without_cpu)
    keep = jc.select(graph, scores, jc.Budget(flops=0.5))
    assert all((keep[name] == expected[name]).all() for name in expected)
