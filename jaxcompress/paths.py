"""Paths: the names of the leaves of a pytree, and how two naming schemes are matched.

A path is the tree's keys joined by ``/``, e.g. ``params/Conv_3/kernel``. Every table, error and
artifact of the library names leaves this way, for Linen, NNX and Equinox alike.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import jax

from jaxcompress.annotations import Array, PyTree

__all__ = [
    "check_matched",
    "fits_any",
    "flatten_with_paths",
    "match_path",
    "match_paths",
    "natural_order",
    "path_string",
]


def path_string(key_path: Sequence[Array]) -> str:
    """Join a JAX key path with ``/``; the ``value`` attribute of NNX's variables is dropped.

    It is an attribute at the end, or before the keys of the dict that a factorized kernel is.

    Example:
        >>> from jax.tree_util import DictKey
        >>> path_string((DictKey("params"), DictKey("kernel")))
        'params/kernel'
    """
    following = [*key_path[1:], None]
    parts = [
        jax.tree_util.keystr((key,), simple=True, separator="/")
        for number, (key, after) in enumerate(zip(key_path, following, strict=False))
        if not (number and _is_value(key) and not isinstance(after, jax.tree_util.GetAttrKey))
    ]
    return "/".join(parts)


def _is_value(key: Array) -> bool:
    return isinstance(key, jax.tree_util.GetAttrKey) and key.name == "value"


def _holds_value(node: Array) -> bool:
    """Tell whether a node is one of NNX's variables, whose value has the same path."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda child: child is not node)
    return len(pairs) == 1 and len(pairs[0][0]) == 1 and _is_value(pairs[0][0][0])


def flatten_with_paths(
    tree: PyTree, whole: Collection[str] = frozenset()
) -> tuple[dict[str, Any], Any]:
    """Flatten a pytree into ``{path: leaf}`` (in tree order) and its treedef.

    ``jax.tree.unflatten(treedef, leaves.values())`` is the inverse.

    Args:
        tree: any pytree.
        whole: paths of subtrees that are left whole, as if they were leaves.

    Raises:
        ValueError: if two leaves share one path.

    Example:
        >>> leaves, treedef = flatten_with_paths({"a": {"b": 1.0}, "c": 2.0})
        >>> leaves
        {'a/b': 1.0, 'c': 2.0}
    """
    pairs, treedef = jax.tree_util.tree_flatten_with_path(
        tree,
        is_leaf=lambda path, node: (
            bool(whole) and path_string(path) in whole and not _holds_value(node)
        ),
        is_leaf_takes_path=True,
    )
    leaves = {path_string(key_path): leaf for key_path, leaf in pairs}
    if len(leaves) != len(pairs):
        names = [path_string(key_path) for key_path, _ in pairs]
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(
            f"every leaf needs a path of its own, but these name two leaves: {repeated}; "
            "rename the keys so that joining them with '/' keeps them apart"
        )
    return leaves, treedef


def natural_order(path: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which ``Conv_2`` comes before ``Conv_10``.

    Example:
        >>> sorted(["Conv_10", "Conv_2"], key=natural_order)
        ['Conv_2', 'Conv_10']
    """
    pieces = re.findall(r"\d+|\D+", path)
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in pieces)


def match_path(path: str, candidates: Sequence[str]) -> str | None:
    """Find the one candidate that `path` ends with, its first key optional.

    Optimizer states and state outputs repeat the tree of the variables, or of one collection of
    it, under keys of their own: ``0/mu/Conv_0/kernel`` stands for ``params/Conv_0/kernel``.
    Returns None where no candidate, or more than one of the longest, fits.

    Example:
        >>> match_path("0/mu/Conv_0/kernel", ["params/Conv_0/kernel", "params/Conv_1/kernel"])
        'params/Conv_0/kernel'
    """
    matches: dict[int, list[str]] = {}
    for candidate in candidates:
        tail = candidate.split("/", 1)[-1]
        for suffix in (candidate, tail):
            if path == suffix or path.endswith("/" + suffix):
                matches.setdefault(len(suffix), []).append(candidate)
                break
    if not matches:
        return None
    longest = matches[max(matches)]
    return longest[0] if len(longest) == 1 else None


def match_paths(paths: Iterable[str], candidates: Sequence[str]) -> dict[str, str]:
    """Match all paths of a tree that holds copies of the variables; those without a match are out.

    A copy begins where the first of its leaves matches. What lies deeper in it and ends alike,
    ``0/mu/sub/kernel`` beside ``0/mu/kernel``, is another leaf.

    Example:
        >>> match_paths(["0/mu/kernel", "0/mu/sub/kernel"], ["params/kernel"])
        {'0/mu/kernel': 'params/kernel'}
    """
    matches = {path: match_path(path, candidates) for path in paths}
    starts = {path: _start(path, match) for path, match in matches.items() if match is not None}
    known = set(starts.values())
    return {
        path: match
        for path, match in matches.items()
        if match is not None and not any(_inside(starts[path], other) for other in known)
    }


def _start(path: str, match: str) -> str:
    """Return what a path has before the leaf that it matches."""
    is_whole = path == match or path.endswith("/" + match)
    return path[: -len(match if is_whole else match.split("/", 1)[1])]


def _inside(start: str, other: str) -> bool:
    return start != other and start.startswith(other)


def fits_any(path: str, patterns: Sequence[str]) -> bool:
    """Tell whether a path fits one of some shell-style patterns.

    Example:
        >>> fits_any("params/head/kernel", ["*/head/*"]), fits_any("params/head/kernel", [])
        (True, False)
    """
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def check_matched(argument: str, patterns: Sequence[str], paths: Collection[str]) -> None:
    """Raise unless every shell-style pattern fits some path.

    Raises:
        ValueError: naming the patterns that fit none.

    Example:
        >>> check_matched("protect", ["*/kernel"], ["head/kernel", "head/bias"])
    """
    unmatched = [pattern for pattern in patterns if not any(fits_any(p, [pattern]) for p in paths)]
    if unmatched:
        raise ValueError(
            f"{argument} names leaves by shell-style patterns of their paths, but {unmatched} match"
            f" none of {list(paths)[:8]} and so on"
        )
