"""The pages of results, and how they are made from the result files."""

from __future__ import annotations
