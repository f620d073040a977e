"""What a compression did, told from the graph, the compression and the variables."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.annotations import Array
from jaxcompress.report import curves, details
from jaxcompress.report.schema import problems
from tests.report.made_up import report_of, row_of

SHAPES = {"first": (5, 12), "second": (12, 16), "third": (16, 3)}


def apply(variables: Any, inputs: Array) -> Array:
    for name in SHAPES:
        inputs = jnp.tanh(inputs @ variables[name] + variables[f"{name}_bias"])
    return inputs


@pytest.fixture(scope="module")
def variables() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    kernels = {n: generator.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}
    return kernels | {f"{n}_bias": np.ones(s[1], np.float32) for n, s in SHAPES.items()}


@pytest.fixture(scope="module")
def graph(variables: Any) -> jc.Graph:
    return jc.trace(apply, variables, jnp.ones((1, 5)))


def test_a_chain_is_told_step_by_step(graph: jc.Graph, variables: Any) -> None:
    generator = np.random.default_rng(1)
    keep = {"first[1]": np.arange(12) % 3 > 0, "second[1]": np.arange(16) != 4}
    prune = jc.shrink(graph, keep)
    small, shrunk = prune.variables(variables), prune.function(apply)
    again = jc.trace(shrunk, small, jnp.ones((1, 5)))
    more = jc.shrink(again, {"first[1]": np.arange(8) != 2})
    small, shrunk = more.variables(small), more.function(shrunk)
    lowrank = jc.factorize(jc.trace(shrunk, small, jnp.ones((1, 5))), {"second": 4})
    factors = lowrank.variables(small)
    masks = {"third": generator.random(factors["third"].shape) < 0.4}
    sparse = jc.sparsify(factors, masks)
    told = details(graph, jc.chain(prune, more, lowrank, sparse), variables)
    widths = {group["name"]: (group["before"], group["after"]) for group in told["groups"]}
    assert widths == {"first[1]": (12, 7), "second[1]": (16, 15)}
    (rank,) = told["ranks"]
    assert (rank["site"], rank["rank"], rank["full"]) == ("second", 4, 7)
    values = np.linalg.svd(small["second"], compute_uv=False)
    numbers = [number for number, _ in rank["spectrum"]]
    assert numbers == list(range(1, 8))
    np.testing.assert_allclose([x for _, x in rank["spectrum"]], values, rtol=1e-3)
    kept = int(masks["third"].sum())
    assert told["sparsity"] == [{"path": "third", "size": 45, "nonzero": kept}]
    assert not problems(report_of([row_of("a", 0.5, 1.0, details=told)]))


def test_trained_variables_are_counted_as_they_are(graph: jc.Graph, variables: Any) -> None:
    masks = {"third": np.arange(48).reshape(16, 3) % 2 == 0}
    sparse = jc.sparsify(variables, masks)
    trained = jax.tree.map(np.array, sparse.variables(variables))
    trained["third"][0] = 0.0
    told = details(graph, sparse, variables, trained)
    assert told["sparsity"][0]["nonzero"] == np.count_nonzero(trained["third"]) < 24
    assert "groups" not in told and "ranks" not in told


def test_frozen_axes_have_reasons_and_no_folders(graph: jc.Graph, variables: Any) -> None:
    told = details(graph, jc.chain(), variables)
    assert list(told) == ["frozen"]
    axes = {axis for entry in told["frozen"] for axis in entry["axes"]}
    assert axes == {f"{e.path}[{e.axis}]" for e in graph.frozen} and "third[1]" in axes
    assert all(entry["reason"] and "/" not in entry["source"] for entry in told["frozen"])


def test_long_spectra_are_thinned_and_hold_the_rank() -> None:
    kernel = np.random.default_rng(0).normal(size=(200, 150)).astype(np.float32)
    variables, inputs = {"a": kernel}, jnp.ones((1, 200))
    graph = jc.trace(lambda v, x: x @ v["a"], variables, inputs)
    (rank,) = details(graph, jc.factorize(graph, {"a": 38}), variables)["ranks"]
    numbers = [number for number, _ in rank["spectrum"]]
    assert {1, 38, 150} <= set(numbers) and len(numbers) <= 49
    values = np.linalg.svd(kernel, compute_uv=False)
    for number, value in rank["spectrum"]:
        assert value == pytest.approx(values[number - 1], rel=2e-3)


def test_curves_of_metrics_that_are_not_in_every_epoch() -> None:
    history: list[Any] = [{"epoch": 1, "seconds": 2.0, "a": 1.0}, {"epoch": 2, "a": 0.5, "b": 3}]
    a, b = curves(history)
    assert a == {"name": "a", "epochs": [1, 2], "values": [1.0, 0.5]}
    assert b == {"name": "b", "epochs": [2], "values": [3.0]}
