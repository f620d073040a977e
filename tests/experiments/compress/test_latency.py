"""Time as a budget of the command: by a table that is given, or measured first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxcompress as jc
from experiments.compress import run, timed
from experiments.compress.model import given_model
from tests.experiments.compress.conftest import HERE, quick

OWN = f"{HERE / 'own_linen.py'}:make"


def by_size(operation: Any, inputs: Any) -> float:
    return 1e-6 * float(inputs[1].size)


def table_of(file: Path, size: int) -> Path:
    """Write a table by which an operation takes as long as its kernel is large."""
    model = given_model(OWN)
    images = jax.ShapeDtypeStruct((64, size, size, 1), jnp.float32)
    graph = jc.trace(model.apply, model.variables, images)
    jc.latency.save_table(
        file, jc.latency.latency_table(graph, by_size, device="toy", how="by hand")
    )
    return file


def settings(tmp_path: Path, digits: Path, **changes: Any) -> Any:
    ours = {"model": OWN, "data": str(digits), "budget": ("latency=0.9",), "stages": ("prune",)}
    return quick(tmp_path / "run", **{**ours, **changes})


def test_a_budget_of_time_is_met_by_a_table(digits: Path, tmp_path: Path) -> None:
    table = table_of(tmp_path / "table.json", 8)
    rows = run.main(settings(tmp_path, digits, latency_table=table))
    whole, pruned = (row.extra["table_ms"] for row in rows)
    assert 0 < pruned <= 0.9 * whole
    assert (rows[1].num_params or 0) < (rows[0].num_params or 0)


def test_a_table_of_another_network_is_refused(digits: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    other = jc.trace(lambda v, x: x @ v["a"], {"a": jnp.ones((2, 3))}, jnp.ones((64, 2)))
    made = jc.latency.latency_table(other, lambda *_: 1.0, device="toy", how="by hand")
    jc.latency.save_table(table, made)
    with pytest.raises(ValueError, match="a: not in the graph"):
        run.main(settings(tmp_path, digits, latency_table=table))


def test_operations_are_timed_once(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Times as they are would decide which budgets can be reached.
    monkeypatch.setattr(timed.jc.latency, "measured_seconds", lambda _: by_size)
    run.main(settings(tmp_path, digits, budget=("latency=0.95",)))
    (file,) = (tmp_path / "run").glob("latency-*.json")
    first = file.read_bytes()
    assert jc.latency.load_table(file).how == "measured"
    run.main(settings(tmp_path, digits, budget=("latency=0.9",)))
    assert file.read_bytes() == first
