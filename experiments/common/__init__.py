"""What experiments and benchmarks share: data, loop, stages, measurements, reports, commands."""

from __future__ import annotations

__all__: list[str] = []
