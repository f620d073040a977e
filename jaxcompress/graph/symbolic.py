"""Sizes that are no number yet: the symbolic dimensions of `jax.export`.

An axis of symbolic size carries no labels and cannot change size. Costs are numbers, so those that
grow with a symbolic batch are divided by it: they are what one example costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.export import is_symbolic_dim

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.graph.internals import source_line

__all__ = [
    "check_batch_axis",
    "check_symbolic",
    "is_long",
    "is_symbolic",
    "less",
    "of_one_example",
    "quotient",
]


def is_symbolic(*sizes: Any) -> bool:
    """Tell whether any size is symbolic.

    Example:
        >>> from jax.export import symbolic_shape
        >>> is_symbolic(*symbolic_shape("b, 3")), is_symbolic(2, 3)
        (True, False)
    """
    return any(is_symbolic_dim(size) for size in sizes)


def is_long(size: Any) -> bool:
    """Tell whether an axis may have more than one index."""
    return is_symbolic_dim(size) or size > 1


def less(left: Array, right: Array) -> bool:
    """Tell whether a size is less than another; of symbolic ones, whether it divides it.

    Example:
        >>> from jax.export import symbolic_shape
        >>> b, t = symbolic_shape("b, t")
        >>> less(2, 3), less(b, b * t), less(b * t, b)
        (True, True, False)
    """
    return right % left == 0 if is_symbolic(left, right) else left < right


def quotient(count: Array, value: Array) -> Array:
    """Return count / value where it is whole, else None; at least one of them is symbolic."""
    if not is_symbolic(value):
        value = int(value) if value == int(value) else 0
    return count // value if is_symbolic(value) or value else None


def of_one_example(contractions: Sequence[Array], inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Return contractions at a batch of one, where the number of examples is symbolic.

    Args:
        contractions: records of what each costs, its `constant`.
        inputs: abstract values; their symbolic size is the number of examples.

    Raises:
        ValueError: naming those that are no number even then.
    """
    examples = next((n for aval in inputs for n in aval.shape if is_symbolic(n)), 1)
    made = [one._replace(constant=_at_one(one.constant, examples)) for one in contractions]
    wrong = [
        f"{source_line(one.equation)}: {one.constant}" for one in made if is_symbolic(one.constant)
    ]
    if wrong:
        raise ValueError(
            f"costs are numbers per example, but those of these contractions depend on {examples} "
            f"otherwise: {'; '.join(wrong)}; trace at numbers instead: what comes of the graph "
            "takes any size"
        )
    return tuple(made)


def _at_one(count: Array, examples: Batch) -> Array:
    while is_symbolic(count) and count % examples == 0:
        count = count // examples
    return count


def check_batch_axis(inputs: tuple[PyTree, ...], batch_axis: int | None) -> None:
    """Raise unless some input has the axis of examples."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(inputs)]
    has_it = any(-len(shape) <= (batch_axis or 0) < len(shape) for shape in shapes)
    if batch_axis and not has_it:
        raise ValueError(
            f"the axis of examples is one of the inputs', but there is no axis {batch_axis} in "
            f"their shapes {shapes}; pass batch_axis=None where there are no examples"
        )


def check_symbolic(program: Any, batch_axis: int | None) -> None:
    """Refuse symbolic sizes other than that of the axis of examples.

    Args:
        program: its `leaves`, and `inputs` of `input_paths`, are abstract values.
        batch_axis: the axis of examples.

    Raises:
        ValueError: naming all that have one.
    """
    named = zip(program.input_paths, program.inputs, strict=True)
    sizes = {f"input {path}": aval.shape for path, aval in named}
    wrong = {path: leaf.shape for path, leaf in program.leaves.items() if is_symbolic(*leaf.shape)}
    for path, shape in sizes.items():
        if is_symbolic(*(size for axis, size in enumerate(shape) if axis != batch_axis)):
            wrong[path] = shape
    batches = {size for shape in sizes.values() for size in shape if is_symbolic(size)}
    if len(batches) > 1 and not wrong:
        wrong = {path: shape for path, shape in sizes.items() if is_symbolic(*shape)}
    if wrong:
        listed = "; ".join(f"{path}: {tuple(shape)}" for path, shape in wrong.items())
        raise ValueError(
            f"costs are numbers per example, so only the axis of examples ({batch_axis=}) may be "
            f"symbolic, the same for all inputs, but {listed}; trace at numbers instead: what "
            "comes of the graph takes any size"
        )
