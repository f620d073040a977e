"""What the reference reads in docstrings: an `Example:` is code that runs."""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["Examples"]


class Examples(griffe.Extension):
    """Tells Griffe, whose word for the section is `Examples:`."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Call the section of one function, class or module as Griffe does."""
        if not obj.is_alias and obj.docstring is not None:
            text = obj.docstring.value
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
