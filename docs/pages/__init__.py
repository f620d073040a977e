"""One module a page: a function that returns its Markdown, every figure read from a file."""

from __future__ import annotations
