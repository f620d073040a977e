"""The README's blocks run as they stand, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"


def blocks() -> list[str]:
    """Return the blocks of Python, in order."""
    return [part.split("```")[0] for part in README.read_text().split("```python\n")[1:]]


def test_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {"__name__": "__main__"}
    prune, others = blocks()
    exec(compile(prune, "README.md", "exec"), known)
    images = known["batches"][0]
    halves = known["small_apply"](known["small"], images)
    assert halves.shape == (64, 10) and np.isfinite(halves).all()
    exec(compile(others, "README.md", "exec"), known)
    loss = known["lesson"].loss(known["small"], images, known["key"])
    assert float(loss) > 0 and known["lowrank"].variables and known["sparse"].variables
    np.testing.assert_array_equal(known["function"](known["variables"], images), halves)
