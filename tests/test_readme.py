"""The README's blocks run as they stand, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"


def blocks() -> list[str]:
    """Return the blocks of Python, in order."""
    return [part.split("```")[0] for part in README.read_text().split("```python\n")[1:]]


def test_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {"__name__": "__main__"}
    defined, recipes, parts = blocks()
    exec(compile(defined, "README.md", "exec"), known)
    whole = known["variables"]
    exec(compile(recipes, "README.md", "exec"), known)
    images, halves = (
        known["images"],
        known["small_apply"](known["small_variables"], known["images"]),
    )
    loss = known["lesson"].loss(known["small_variables"], images, known["key"])
    assert halves.shape == (64, 10) and np.isfinite(halves).all() and float(loss) > 0
    assert known["lowrank"].variables and known["sparse"].variables
    exec(compile(parts, "README.md", "exec"), known)
    expected = known["both"].function(known["apply"])(known["both"].variables(whole), images)
    np.testing.assert_array_equal(known["function"](known["variables"], images), expected)
    for small, dense in zip(
        jax.tree.leaves(known["small_state"]), jax.tree.leaves(known["opt_state"]), strict=True
    ):
        assert small.size <= dense.size
