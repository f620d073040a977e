"""Benchmarks: what is fast, beside what others do; one folder or file each."""

from __future__ import annotations

__all__: list[str] = []
