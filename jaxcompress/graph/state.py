"""Which outputs of a function are plainly new values of leaves.

An output is never taken for new state because its key and shape happen to be a leaf's: features
returned under the key of a kernel are features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.graph.program import Program
from jaxcompress.paths import flatten_with_paths

__all__ = ["plain_state"]


def plain_state(program: Program) -> dict[str, str]:
    """Return `{path of an output: the leaf it replaces}` where nothing else can be meant.

    The whole result, or one entry of a tuple in it, repeats the variables: it has every leaf of a
    collection, and nothing else, under the same keys and of the same shapes; or it is of the
    variables' own class (`nnx.State`).
    """
    replaced: dict[str, str] = {}
    for prefix, part in _parts(program.outputs):
        entries, _ = flatten_with_paths(part)
        for path in _repeated(program, part, entries):
            replaced[f"{prefix}{path}"] = path
    return replaced | _own_class(program)


def _parts(result: Json, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the result, and the entries of its tuples."""
    yield prefix, result
    if type(result) is tuple:
        for position, part in enumerate(result):
            yield from _parts(part, f"{prefix}{position}/")


def _repeated(program: Program, part: PyTree, entries: Mapping[str, Array]) -> list[str]:
    leaves = program.leaves
    alike = {p for p, leaf in entries.items() if p in leaves and leaf.shape == leaves[p].shape}
    if type(part) is type(program.variables) and not isinstance(part, dict | tuple | list):
        return sorted(alike)
    # A key alone may be anything's, and so may positions.
    named = {p for p in alike if "/" in p and not p.replace("/", "").isdigit()}
    others = {path.split("/")[0] for path in (entries.keys() | leaves.keys()) - named}
    return [path for path in sorted(named) if path.split("/")[0] not in others]


def _own_class(program: Program) -> dict[str, str]:
    """Match the entries of pairs `(model, state)` whose state is of a class of its own."""
    result, variables = program.outputs, program.variables
    if not (type(result) is type(variables) is tuple):
        return {}
    replaced: dict[str, str] = {}
    structure: PyTree = jax.tree.structure
    for position, (part, other) in enumerate(zip(result, variables, strict=False)):
        plain = isinstance(other, tuple | list | dict) or jax.tree_util.all_leaves([other])
        if not plain and structure(part) == structure(other):
            entries, before = flatten_with_paths(part)[0], flatten_with_paths(other)[0]
            if all(entries[path].shape == before[path].shape for path in before):
                replaced |= {f"{position}/{path}": f"{position}/{path}" for path in entries}
    return replaced
