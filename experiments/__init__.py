"""Experiments: one readable file each, over shared data, loop, environment and report modules."""

from __future__ import annotations

__all__: list[str] = []
