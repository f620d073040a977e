"""The nearest known name of what was mistyped, for errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest"]


def nearest(word: str, choices: Iterable[str], otherwise: str = "") -> str:
    """Return a remedy: the name that was meant, or all there are.

    Args:
        word: what was given.
        choices: the names there are.
        otherwise: added where nothing is near.

    Example:
        >>> nearest("prun", ["prune", "distil"]), nearest("x", ["prune", "distil"])
        ("did you mean 'prune'?", "take one of 'prune', 'distil'")
    """
    known = list(dict.fromkeys(choices))
    close = difflib.get_close_matches(word, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = ", ".join(map(repr, known[:20])) + (" and so on" if len(known) > 20 else "")
    return (f"take one of {listed}" if known else "") + otherwise
