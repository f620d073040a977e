"""What the result file says of public PyTorch architectures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks/results/torch_architectures.json"
ROWS = {row["name"]: row for row in json.loads(FILE.read_text())["rows"]}
ADAPTED = {name: row for name, row in ROWS.items() if "error" not in row}


def test_most_architectures_are_adapted() -> None:
    assert len(ADAPTED) >= 60
    words = [row["error"] for row in ROWS.values() if "error" in row]
    assert all("has no lowering" in error for error in words)


@pytest.mark.parametrize("name", sorted(ADAPTED))
def test_the_law_held(name: str) -> None:
    row = ADAPTED[name]
    assert row["outputs"] < 1e-5 and row["law"] < 1e-5
    assert row["moved"] > 1e-3 and row["params"] > 0.3
