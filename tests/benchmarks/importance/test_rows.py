"""The rows of the importance benchmark: kept in a file, laid out in a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.importance import plot as importance_plot
from benchmarks.importance.rows import Row, Rows, table


def row(seed: int, ratio: float = 0.5, groups: str = "internal", **test: float) -> Row:
    return Row("jaxcompress", "learned", groups, ratio, ratio, seed, 10.0, {}, test, None)


def test_the_table_averages_over_seeds_and_tells_groups_apart() -> None:
    rows = [row(0, augmented=80.0), row(1, augmented=90.0), row(0, groups="all", augmented=70.0)]
    lines = table(rows).splitlines()
    assert lines[0] == "augmented, by FLOPs:"
    assert "| jaxcompress | learned | internal | 85.0 (5.0) | 2 | 10 |" in lines
    assert "| jaxcompress | learned | all | 70.0 | 1 | 10 |" in lines


def test_the_table_has_a_value_for_every_form_and_a_dash_for_what_is_missing() -> None:
    rows = [row(0, augmented=80.0, recovered=88.0), row(0, 0.3, augmented=50.0)]
    assert "| 80.0 / 88.0 | 50.0 / – |" in table(rows)


def test_a_row_of_the_same_key_is_replaced_and_others_stay(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.json", {"images": 10})
    rows.add(row(0, augmented=80.0))
    rows.add(row(1, augmented=81.0))
    rows.add(row(0, augmented=82.0))
    assert [entry.test["augmented"] for entry in rows.read()] == [82.0, 81.0]


def test_rows_of_other_settings_are_refused(tmp_path: Path) -> None:
    Rows(tmp_path / "rows.json", {"images": 10}).add(row(0, augmented=80.0))
    with pytest.raises(ValueError, match="share their settings"):
        Rows(tmp_path / "rows.json", {"images": 20})


def test_the_picture_has_a_curve_per_method_with_several_ratios(tmp_path: Path) -> None:
    rows = [row(0, 0.5, augmented=80.0), row(0, 0.3, augmented=50.0)]
    importance_plot.plot(tmp_path / "curves.png", rows)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
