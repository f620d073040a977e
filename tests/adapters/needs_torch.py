"""What imports this is skipped where the extra `torch` is not installed."""

from __future__ import annotations

import importlib.util

import pytest

for package in ("torch", "torchax"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs the extra `torch`: no {package}", allow_module_level=True)
