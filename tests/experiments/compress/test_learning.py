"""A lesson that was killed goes on where it was, and ends with the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments.common import stopping
from experiments.compress import learning
from tests.experiments.compress.conftest import quick


def test_a_killed_lesson_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "SECONDS", 0.0)
    monkeypatch.setattr(learning, "CHECKED", 3)
    rows = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    config = quick(tmp_path, batch_size=16)

    def loss(variables: Any, batch: Any, key: jax.Array) -> Any:
        noise = jax.random.normal(key, (4,))
        return jnp.square(batch["image"] @ variables["a"] + noise[0] - 1).mean(), ({}, {})

    def learned(folder: Path | None) -> Any:
        console = Console(quiet=True)
        return learning.learn(
            loss, {"a": jnp.ones(4)}, {"image": rows}, 3, config, console, False, folder
        )

    whole, facts = learned(None)
    keep = stopping.Kept.at_times

    def killed(kept: stopping.Kept, state: Any) -> None:
        keep(kept, state)
        if int(state.step) == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stopping.Kept, "at_times", killed)
        learned(tmp_path / "state")
    again, facts_again = learned(tmp_path / "state")
    np.testing.assert_array_equal(again["a"], whole["a"])
    assert facts["steps"] == facts_again["steps"] == 12
