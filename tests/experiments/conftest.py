"""What all tests of experiments need."""

from __future__ import annotations

import pytest

from experiments.common import environment


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the compilation cache as the root's conftest set it, whatever `main` prepares."""
    monkeypatch.setattr(environment, "prepare", lambda **_: None)
