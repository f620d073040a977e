"""Every way to read is timed, of images that are made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import input_pipeline
from benchmarks.input_pipeline import READERS, Config, main


def test_every_reader_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_pipeline, "limit_cores", lambda count: None)
    monkeypatch.setattr(input_pipeline, "MADE_UP", 4)
    main(Config(image_size=32, repeats=1, output=tmp_path / "paces.json"))
    rows = json.loads((tmp_path / "paces.json").read_text())["rows"]
    assert [row["reader"] for row in rows] == list(READERS)
    assert all(row["images_per_second"] > 0 and row["mean_pixels"] == 500 * 375 for row in rows)
