"""The pages of results say what the result files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import generate

ROOT = Path(__file__).parents[1]


def test_pages_are_as_the_result_files_say() -> None:
    assert not generate.outdated(), "run `python -m docs.generate`"


def test_a_figure_typed_by_hand_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "docs/results/ranks.md"
    for path, text in generate.texts().items():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert not generate.outdated()
    page.write_text(page.read_text().replace("92.74 %", "92.94 %"))
    assert generate.outdated() == ["docs/results/ranks.md"]
