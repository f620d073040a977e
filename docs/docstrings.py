"""What the reference reads in docstrings: an `Example:` is code that runs."""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["Examples"]


class Examples(griffe.Extension):
    """Tells Griffe, whose word for the section is `Examples:`."""

    def on_object(self, **given: Any) -> None:
        """Call the section of one function, class or module as Griffe does."""
        documented = given["obj"]
        if not documented.is_alias and documented.docstring is not None:
            text = documented.docstring.value
            renamed = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
            documented.docstring.value = renamed
