"""Fixtures that many tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and trained weights, named by JAXCOMPRESS_SHARED."""
    folder = os.environ.get("JAXCOMPRESS_SHARED")
    if not folder:
        pytest.skip("needs real data: JAXCOMPRESS_SHARED is not set")
    if not Path(folder).is_dir():
        pytest.skip(f"needs real data: JAXCOMPRESS_SHARED names no folder: {folder}")
    return Path(folder)
