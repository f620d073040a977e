"""Reading a user's function into a labelled jaxpr, its leaves named by path."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.graph.axes import Axis, Value, whole
from jaxcompress.graph.calling import told
from jaxcompress.graph.internals import abstract, is_key
from jaxcompress.graph.interpret import Body
from jaxcompress.graph.labelling import Kind, Labelling
from jaxcompress.graph.origins import of_leaf
from jaxcompress.graph.reading import label
from jaxcompress.graph.rules import rule_of
from jaxcompress.paths import flatten_with_paths, path_string

__all__ = [
    "LabelledProgram",
    "Owner",
    "Program",
    "input_paths",
    "label_another",
    "label_program",
    "read",
]


class Program(NamedTuple):
    """A function of variables and inputs as a jaxpr.

    Attributes:
        jaxpr: operands are the leaves of the variables, then the array leaves of the inputs.
        leaves: abstract value of each leaf of the variables, by path.
        inputs: abstract values of the array leaves of the inputs.
        outputs: the function's result, with abstract values as leaves.
        variables: the variables, with abstract values as leaves.
        input_paths: the path of each of `inputs`: the number, or name, of its argument first.
    """

    jaxpr: ClosedJaxpr
    leaves: dict[str, Array]
    inputs: list[Array]
    outputs: PyTree
    variables: PyTree
    input_paths: tuple[str, ...]


class Owner(NamedTuple):
    """The labels `start .. start + size - 1` belong to one axis of one leaf."""

    path: str
    axis: int
    start: int
    size: int


class LabelledProgram(NamedTuple):
    """A program with a label on every index of every axis."""

    program: Program
    labelling: Labelling
    body: Body
    owners: list[Owner]

    def owner(self, number: int) -> Owner | None:
        """Return the leaf axis that a label was born on, if any."""
        matches = [o for o in self.owners if o.start <= number < o.start + o.size]
        return matches[0] if matches else None

    def leaf(self, path: str) -> Value:
        """Return the labelled leaf at a path."""
        return self.body.inputs[list(self.program.leaves).index(path)]

    def input(self, path: str) -> Value:
        """Return the labelled input at a path."""
        return self.body.inputs[len(self.program.leaves) + self.program.input_paths.index(path)]


def is_array(leaf: Array) -> bool:
    """Tell whether a leaf is traced; booleans, strings and functions stay as they are."""
    is_number = isinstance(leaf, int | float | complex) and not isinstance(leaf, bool)
    return is_number or (hasattr(leaf, "shape") and hasattr(leaf, "dtype"))


def split_static(tree: PyTree) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """Return the array leaves of a tree, and the function that puts new ones in their place."""
    leaves, treedef = jax.tree.flatten(tree)
    positions = [i for i, leaf in enumerate(leaves) if is_array(leaf)]

    def restore(arrays: Sequence[Array]) -> PyTree:
        new = dict(zip(positions, arrays, strict=True))
        return jax.tree.unflatten(treedef, [new.get(i, leaf) for i, leaf in enumerate(leaves)])

    return [leaves[i] for i in positions], restore


def input_paths(inputs: tuple[PyTree, ...], keywords: dict[str, Array]) -> tuple[str, ...]:
    """Return the paths of the arrays among a function's inputs, as `split_static` orders them."""
    pairs = jax.tree_util.tree_leaves_with_path((inputs, keywords))
    return tuple(path_string(path[1:]) for path, leaf in pairs if is_array(leaf))


def read(
    function: Function,
    variables: PyTree,
    inputs: tuple[PyTree, ...],
    keywords: dict[str, Array] | None = None,
) -> Program:
    """Trace `function(variables, *inputs, **keywords)` abstractly.

    Args:
        function: any JAX function whose results are arrays.
        variables: pytree of arrays or `jax.ShapeDtypeStruct`.
        inputs: further arguments; their array leaves are traced, booleans, strings and functions
            among them stay Python values.
        keywords: further arguments by name, treated alike.

    Raises:
        TypeError: if a leaf of the variables or of the result is not an array.
    """
    leaves, treedef = flatten_with_paths(variables)
    _require_arrays(leaves, "every leaf of the variables must be an array")
    arrays, restore = split_static((inputs, keywords or {}))

    def flat(values: list[Array], others: list[Array]) -> PyTree:
        args, names = restore(others)
        result = told(function, others)(jax.tree.unflatten(treedef, values), *args, **names)
        _require_arrays(flatten_with_paths(result)[0], "every output must be an array")
        return result

    avals = {path: abstract(leaf) for path, leaf in leaves.items()}
    others = [abstract(array) for array in arrays]
    jaxpr, outputs = jax.make_jaxpr(flat, return_shape=True)(list(avals.values()), others)
    tree = jax.tree.unflatten(treedef, list(avals.values()))
    return Program(jaxpr, avals, others, outputs, tree, input_paths(inputs, keywords or {}))


def _require_arrays(leaves: dict[str, Array], rule: str) -> None:
    others = {path or "(the only one)": x for path, x in leaves.items() if not is_array(x)}
    if others:
        listed = ", ".join(f"{path}: {type(x).__name__}" for path, x in others.items())
        raise TypeError(
            f"{rule}, but found {listed}; close over other values, or split them off first "
            "(nnx.split, eqx.partition)"
        )


def label_program(
    program: Program,
    discover: bool,
    batch_axis: int | None = 0,
    free: Collection[str] = (),
) -> LabelledProgram:
    """Label every axis of a program: leaves first, then inputs, then whatever they meet.

    Args:
        program: what to label.
        discover: whether to decide what may be removed, or to apply a decision.
        batch_axis: the axis of examples of every input.
        free: paths of inputs whose other axes may shrink too: state handed in.
    """
    labelling = Labelling(enter=lambda *_: None, discover=discover)
    labelling.enter = lambda jaxpr, inputs: label(labelling, jaxpr, inputs, rule_of)
    owners: list[Owner] = []
    values = [_label_leaf(labelling, owners, path, aval) for path, aval in program.leaves.items()]
    values += _label_inputs(labelling, program, batch_axis, free)
    if not discover:
        owners += _input_owners(program, values[len(program.leaves) :], free)
    return LabelledProgram(program, labelling, labelling.enter(program.jaxpr, values), owners)


def _input_owners(program: Program, values: Sequence[Value], free: Collection[str]) -> list[Owner]:
    """Name the axes of free inputs, so that what is known of them can be said like a leaf's."""
    return [
        Owner(owner_name(path), number, int(axis.labels[0]), axis.size)
        for path, value in zip(program.input_paths, values, strict=True)
        for number, axis in enumerate(value.axes)
        if path in free and axis.labels is not None
    ]


def owner_name(path: str) -> str:
    """Return the name of an input among the leaves, which no leaf has.

    Example:
        >>> owner_name("0/carry")
        'input 0/carry'
    """
    return f"input {path}"


def label_another(
    labelled: LabelledProgram,
    program: Program,
    batch_axis: int | None = 0,
    free: Collection[str] = (),
) -> LabelledProgram:
    """Label another program of the same leaves, which carry the labels that they have."""
    labelling, count = labelled.labelling, len(labelled.program.leaves)
    inputs = _label_inputs(labelling, program, batch_axis, free)
    body = labelling.enter(program.jaxpr, [*labelled.body.inputs[:count], *inputs])
    return LabelledProgram(program, labelling, body, labelled.owners)


def _label_leaf(labelling: Labelling, owners: list[Owner], path: str, aval: Array) -> Value:
    if is_key(aval.dtype):
        return whole(aval.shape)
    for axis, size in enumerate(aval.shape):
        if size > 1:
            start = labelling.count + sum(s for s in aval.shape[:axis] if s > 1)
            owners.append(Owner(path, axis, start, size))
    labelled = labelling.fresh_value(aval.shape, Kind.LEAF, path)
    return replace(labelled, origin=of_leaf(path, aval.shape))


def _label_inputs(
    labelling: Labelling, program: Program, batch_axis: int | None, free: Collection[str]
) -> list[Value]:
    """Give the batch axis of all inputs the same example labels; others are fixed or free."""
    examples: Axis | None = None
    values = []
    for path, aval in zip(program.input_paths, program.inputs, strict=True):
        axes = [Axis(size) for size in aval.shape]
        if path in free and not is_key(aval.dtype):
            axes = [labelling.fresh(size, Kind.CONSTANT) for size in aval.shape]
        if batch_axis is not None and len(axes) > batch_axis and not is_key(aval.dtype):
            size = axes[batch_axis].size
            if examples is None:
                examples = labelling.fresh(size, Kind.EXAMPLE)
            if size == examples.size:
                axes[batch_axis] = examples
        values.append(Value(tuple(axes)))
    if examples is not None:
        labelling.pin(None, examples, "it is the axis of examples")
    return values


def example_labels(labelling: Labelling) -> np.ndarray:
    """Return the labels of the examples, in order."""
    return np.flatnonzero(labelling.kind_of_labels() == Kind.EXAMPLE)
