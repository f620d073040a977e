"""Which outputs of a function are new values of leaves: what is said, and what is plain without.

An output is never taken for new state because its key and shape happen to be a leaf's: features
returned under the key of a kernel are features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import jax

from jaxcompress.graph.axes import Value
from jaxcompress.graph.program import LabelledProgram, Program
from jaxcompress.paths import flatten_with_paths, match_path

__all__ = ["Pick", "plain_state", "settle_outputs", "tie_plain_state"]

Pick = Callable[[Any], Any]
"""Picks a part of a function's result."""


def plain_state(program: Program) -> dict[str, str]:
    """Return `{path of an output: the leaf it replaces}` where nothing else can be meant.

    The whole result, or one entry of a tuple in it, repeats the variables: it has every leaf of a
    collection, and nothing else, under the same keys and of the same shapes; or it is of the
    variables' own class (`nnx.State`).
    """
    found: dict[str, str] = {}
    for prefix, part in _parts(program.outputs):
        own, _ = flatten_with_paths(part)
        for path in _repeated(program, part, own):
            found[f"{prefix}{path}"] = path
    return found | _own_class(program)


def _parts(result: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the result, and the entries of its tuples."""
    yield prefix, result
    if type(result) is tuple:
        for position, part in enumerate(result):
            yield from _parts(part, f"{prefix}{position}/")


def _repeated(program: Program, part: Any, own: Mapping[str, Any]) -> list[str]:
    leaves = program.leaves
    alike = {p for p, leaf in own.items() if p in leaves and leaf.shape == leaves[p].shape}
    if type(part) is type(program.variables) and not isinstance(part, dict | tuple | list):
        return sorted(alike)
    # A key alone may be anything's, and so may positions.
    named = {p for p in alike if "/" in p and not p.replace("/", "").isdigit()}
    others = {path.split("/")[0] for path in (own.keys() | leaves.keys()) - named}
    return [path for path in sorted(named) if path.split("/")[0] not in others]


def _own_class(program: Program) -> dict[str, str]:
    """Match the entries of pairs `(model, state)` whose state is of a class of its own."""
    result, variables = program.outputs, program.variables
    if not (type(result) is type(variables) is tuple):
        return {}
    found: dict[str, str] = {}
    structure: Any = jax.tree.structure
    for position, (part, other) in enumerate(zip(result, variables, strict=False)):
        plain = isinstance(other, tuple | list | dict) or jax.tree_util.all_leaves([other])
        if not plain and structure(part) == structure(other):
            own, before = flatten_with_paths(part)[0], flatten_with_paths(other)[0]
            if all(own[path].shape == before[path].shape for path in before):
                found |= {f"{position}/{path}": f"{position}/{path}" for path in own}
    return found


def tie_plain_state(labelled: LabelledProgram) -> None:
    """Tie each output that plainly replaces a leaf to it: they lose the same indices."""
    outputs = _by_path(labelled)
    for path, leaf in plain_state(labelled.program).items():
        _tie(labelled, outputs[path], leaf)


def settle_outputs(labelled: LabelledProgram, output: Pick | None, state: Pick | None) -> None:
    """Tie the outputs that replace leaves to them, and freeze the others that `output` picks.

    Raises:
        ValueError: if an output is picked by both, or new state fits no leaf.
    """
    outputs = _by_path(labelled)
    values = jax.tree.unflatten(jax.tree.structure(labelled.program.outputs), outputs.values())
    paths = {id(value): path for path, value in outputs.items()}
    chosen = {paths.get(id(v)) for v in jax.tree.leaves(output(values) if output else values)}
    if state is None:
        said = {
            path: leaf
            for path, leaf in plain_state(labelled.program).items()
            if output is None or path not in chosen
        }
    else:
        said = _said(labelled, state(values), paths)
        if output is not None and chosen & said.keys():
            raise ValueError(
                "an output keeps its shape or is new state, but output= and state= both pick "
                f"{sorted(chosen & said.keys(), key=str)}; pick each by one of them"
            )
    for path, leaf in said.items():
        _tie(labelled, outputs[path], leaf)
    for path, value in outputs.items():
        if path in chosen and path not in said:
            labelled.labelling.use([value])
            labelled.labelling.pin_all(None, [value], _reason(path, labelled.program.leaves))


def _by_path(labelled: LabelledProgram) -> dict[str, Value]:
    """Return the outputs by path, each a value of its own: two may be the same array."""
    paths, _ = flatten_with_paths(labelled.program.outputs)
    return {path: replace(value) for path, value in zip(paths, labelled.body.outputs, strict=True)}


def _tie(labelled: LabelledProgram, value: Value, leaf: str) -> None:
    for own, other in zip(value.axes, labelled.leaf(leaf).axes, strict=True):
        labelled.labelling.tie(None, own, other)


def _said(labelled: LabelledProgram, picked: Any, paths: Mapping[int, str]) -> dict[str, str]:
    """Match the new state that a caller picked to leaves, by path."""
    leaves, said, wrong = labelled.program.leaves, {}, []
    for path, value in flatten_with_paths(picked)[0].items():
        leaf = _leaf_at(path, leaves)
        place = path or "the only one"
        if id(value) not in paths:
            wrong.append(f"{place} is no output")
        elif leaf is None:
            wrong.append(f"{place} names no leaf, or several")
        elif tuple(axis.size for axis in value.axes) != leaves[leaf].shape:
            sizes = tuple(axis.size for axis in value.axes)
            wrong.append(f"{place} is {sizes} and {leaf} {leaves[leaf].shape}")
        else:
            said[paths[id(value)]] = leaf
    if wrong:
        raise ValueError(
            "state= picks outputs that replace leaves of the variables, under their paths (the "
            f"first key, the collection, may be left out), but {'; '.join(wrong)}; return a tree "
            f"of outputs under the keys of the variables, e.g. {{{next(iter(leaves))!r}: ...}}"
        )
    return said


def _leaf_at(path: str, leaves: Mapping[str, Any]) -> str | None:
    if path in leaves:
        return path
    found = [leaf for leaf in leaves if "/" in leaf and leaf.split("/", 1)[1] == path]
    return found[0] if len(found) == 1 else None


def _reason(path: str, leaves: Mapping[str, Any]) -> str:
    leaf = match_path(path, list(leaves))
    if leaf is None:
        return "it reaches an output"
    return f"it reaches an output, {path}; if that is the new value of {leaf}, say so by state="
