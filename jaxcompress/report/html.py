"""HTML and SVG as text: what is put into an element is escaped, unless it is an element itself."""

from __future__ import annotations

import html
from collections.abc import Iterable

__all__ = ["Markup", "element", "join"]

EMPTY = frozenset({"meta", "line", "path", "rect", "circle"})


class Markup(str):
    """Text that is HTML already."""


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """Return an element; what is no `Markup` is escaped.

    Args:
        tag: its name.
        *children: text, elements, or iterables of either; None is left out.
        **attributes: an underscore stands for a hyphen, one at the end for nothing; None and False
            are left out, True stands alone.

    Example:
        >>> element("p", "a < b", class_="note", hidden=True)
        '<p class="note" hidden>a &lt; b</p>'
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in EMPTY:
        return Markup(f"<{tag}{written}>" if tag == "meta" else f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def join(children: Iterable[object]) -> Markup:
    """Return what stands one after the other, as one.

    Example:
        >>> join(["a", None, [element("b", 1)]])
        'a<b>1</b>'
    """
    return Markup("".join(_text(child) for child in children))


def _text(child: object) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, Iterable) and not isinstance(child, str):
        return join(child)
    return html.escape(str(child))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    written = name.rstrip("_").replace("_", "-")
    return f" {written}" if value is True else f' {written}="{html.escape(str(value))}"'
