"""The comparison of ways to teach: what may differ within a folder, and means over seeds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from experiments.common import data, student_stages
from experiments.knowledge import run
from experiments.knowledge.settings import Config


def test_ways_and_seeds_share_a_folder_and_nothing_else_does() -> None:
    dataset = data.load("digits")

    def settings(**changes: Any) -> dict[str, object]:
        config = dataclasses.replace(Config(), **changes)
        return student_stages.settings_of(config, dataset, run.FREE)

    assert settings() == settings(methods=("logits",), seeds=(3,), only_finished=True)
    assert settings() != settings(temperature=1.0) and settings() != settings(seed=1)


def test_a_row_is_the_mean_over_seeds() -> None:
    seeds = [{"accuracy": 0.5, "view_ratio": 1.0}, {"accuracy": 0.7, "view_ratio": 2.0}]
    row = run.row_of("logits", seeds)
    assert row.accuracy == pytest.approx(0.6) and row.extra["view_ratio"] == 1.5
    assert row.extra["accuracy_std"] == pytest.approx(0.02**0.5)
    assert (row.extra["accuracy_0"], row.extra["accuracy_1"]) == (0.5, 0.7)
    assert "accuracy_std" not in run.row_of("logits", seeds[:1]).extra
