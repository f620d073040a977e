"""What becomes of outputs: they shrink with the leaf or input that they replace, or are frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jaxcompress.annotations import Array
from jaxcompress.graph.axes import Value, whole
from jaxcompress.graph.program import LabelledProgram, Program
from jaxcompress.graph.state import plain_state
from jaxcompress.paths import flatten_with_paths, match_path

__all__ = ["Pick", "Picks", "pick_outputs", "settle_outputs", "tie_plain_state"]

Pick = Callable[[Any], Any]
"""Picks a part of a function's result."""


class Picks(NamedTuple):
    """What the outputs of a function are, by path.

    Attributes:
        leaves: the leaf that an output replaces.
        inputs: the input that an output replaces.
        pinned: the outputs that keep their shape.
    """

    leaves: Mapping[str, str]
    inputs: Mapping[str, str]
    pinned: frozenset[str]


def pick_outputs(program: Program, output: Pick | None, state: Pick | None) -> Picks:
    """Ask `output` and `state` what the outputs are; without `state`, take what is plain.

    Raises:
        ValueError: if an output is picked by both, or new state fits no leaf and no input.
    """
    avals, treedef = flatten_with_paths(program.outputs)
    # Each a value of its own, so that it is known again.
    marks = {path: whole(aval.shape) for path, aval in avals.items()}
    result = jax.tree.unflatten(treedef, list(marks.values()))
    paths = {id(mark): path for path, mark in marks.items()}
    picked = jax.tree.leaves(output(result) if output else result)
    chosen = frozenset(paths[id(mark)] for mark in picked if id(mark) in paths)
    leaves, inputs = plain_state(program), dict[str, str]()
    if state is not None:
        leaves, inputs = _said(program, state(result), paths)
    elif output is not None:
        leaves = {path: leaf for path, leaf in leaves.items() if path not in chosen}
    twice = chosen & (leaves.keys() | inputs.keys())
    if output is not None and twice:
        raise ValueError(
            "an output keeps its shape or is new state, but output= and state= both pick "
            f"{sorted(twice)}; pick each by one of them"
        )
    return Picks(leaves, inputs, chosen - twice)


def settle_outputs(labelled: LabelledProgram, picks: Picks) -> None:
    """Tie the outputs that replace leaves or inputs to them, and freeze the pinned ones."""
    outputs = _by_path(labelled)
    for path, leaf in picks.leaves.items():
        _tie(labelled, outputs[path], labelled.leaf(leaf))
    for path, place in picks.inputs.items():
        _tie(labelled, outputs[path], labelled.input(place))
    for path in sorted(picks.pinned):
        labelled.labelling.use([outputs[path]])
        reason = _reason(path, labelled.program.leaves)
        labelled.labelling.pin_all(None, [outputs[path]], reason)


def tie_plain_state(labelled: LabelledProgram) -> None:
    """Tie each output that plainly replaces a leaf to it: they lose the same indices."""
    settle_outputs(labelled, Picks(plain_state(labelled.program), {}, frozenset()))


def _by_path(labelled: LabelledProgram) -> dict[str, Value]:
    paths, _ = flatten_with_paths(labelled.program.outputs)
    return dict(zip(paths, labelled.body.outputs, strict=True))


def _tie(labelled: LabelledProgram, output: Value, other: Value) -> None:
    labelled.labelling.use([output, other])
    for axis, before in zip(output.axes, other.axes, strict=True):
        labelled.labelling.tie(None, axis, before)


def _said(
    program: Program, picked: Array, paths: Mapping[int, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Match the new state that a caller picked to leaves and inputs, by path."""
    said: tuple[dict[str, str], dict[str, str]] = ({}, {})
    inputs, wrong = dict(zip(program.input_paths, program.inputs, strict=True)), []
    for place, value, is_input in _placed(picked):
        targets = inputs if is_input else program.leaves
        target = _target(place, targets, is_input)
        shown = f"{'input ' if is_input else ''}{place or 'the only one'}"
        if id(value) not in paths:
            wrong.append(f"{shown} is no output")
        elif target is None:
            wrong.append(f"{shown} names no leaf or input, or several")
        elif tuple(axis.size for axis in value.axes) != targets[target].shape:
            sizes = tuple(axis.size for axis in value.axes)
            wrong.append(f"{shown} is {sizes} and {target} {targets[target].shape}")
        else:
            said[is_input][paths[id(value)]] = target
    if wrong:
        raise ValueError(
            "state= picks outputs that replace leaves of the variables, under their paths (the "
            f"first key, the collection, may be left out), or inputs, under their numbers, but "
            f"{'; '.join(wrong)}; return a tree of outputs under the keys of the variables, e.g. "
            f"{{{next(iter(program.leaves), 'leaf')!r}: ...}}, or {{number of the input: ...}}"
        )
    return said


def _placed(picked: Array) -> list[tuple[str, Any, bool]]:
    """Return the picked outputs, where each belongs, and whether that is an input."""
    numbers = [key for key in picked if isinstance(key, int)] if isinstance(picked, dict) else []
    placed = []
    for number in numbers:
        for path, value in flatten_with_paths(picked[number])[0].items():
            placed.append((f"{number}/{path}" if path else str(number), value, True))
    rest = {k: v for k, v in picked.items() if k not in numbers} if numbers else picked
    return [*placed, *((path, value, False) for path, value in flatten_with_paths(rest)[0].items())]


def _target(path: str, targets: Mapping[str, Array], is_input: bool) -> str | None:
    if path in targets:
        return path
    matches = [leaf for leaf in targets if "/" in leaf and leaf.split("/", 1)[1] == path]
    return matches[0] if len(matches) == 1 and not is_input else None


def _reason(path: str, leaves: Mapping[str, Array]) -> str:
    leaf = match_path(path, list(leaves))
    if leaf is None:
        return "it reaches an output"
    return f"it reaches an output, {path}; if that is the new value of {leaf}, say so by state="
