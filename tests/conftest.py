"""Fixtures that many tests share."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from jaxcompress.backend import compiling


@pytest.fixture(scope="session", autouse=True)
def _compiled_as_it_is() -> Iterator[None]:
    """Rewrite no program but where a test asks for it: the compilation cache cannot store those.

    What it tries to store it keeps in memory; see `backend.fast_convolutions`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "LARGE", math.inf)
        yield


@pytest.fixture(scope="module", autouse=True)
def _programs_of_one_module() -> Iterator[None]:
    """Let go of what a module compiled: others hardly use it, and it would fill gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and trained weights, named by JAXCOMPRESS_SHARED."""
    folder = os.environ.get("JAXCOMPRESS_SHARED")
    if not folder:
        pytest.skip("needs real data: JAXCOMPRESS_SHARED is not set")
    if not Path(folder).is_dir():
        pytest.skip(f"needs real data: JAXCOMPRESS_SHARED names no folder: {folder}")
    return Path(folder)
