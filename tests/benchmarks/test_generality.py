"""The reach of the graph never falls behind what the result file says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import generality
from tests.laws import TOYS, graph_of

FILE = Path(__file__).parents[2] / "benchmarks/results/generality.json"
KNOWN = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", sorted(TOYS))
def test_no_toy_loses_reach(name: str) -> None:
    before, now = KNOWN["toys"][name], generality.reach(graph_of(name))
    assert now["params"] >= before["params"] - 1e-9
    assert now["flops"] >= before["flops"] - 1e-9


def test_removing_equalled_masking() -> None:
    wrong = {name: row["error"] for name, row in KNOWN["toys"].items() if row["error"] > 1e-2}
    assert not wrong
