"""`Compression`: a frozen record of pure functions plus a JSON-able description of itself.

Shrinking, factorizing and sparsifying are all Compressions, so "prune, then factorize, then
sparsify" is composition (`chain`). Each is made from its `spec` alone, which is what an artifact
stores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optax

from jaxcompress.annotations import Array, Batch, Function, PyTree

__all__ = ["Compression", "Spec", "chain", "steps_of"]

Spec = Mapping[str, Any]


@dataclass(frozen=True)
class Compression:
    """A change of a network that makes it smaller, as pure functions.

    Attributes:
        spec: JSON-able description, per leaf path, from which the record can be made again.
        variables: `variables -> smaller variables`; arrays or `jax.ShapeDtypeStruct`.
        function: `f -> g` with `g(smaller variables, *inputs)` equal to `f` on the masked ones,
            for evaluation, training and loss functions alike. Differentiate `g`, not `f`.
        optimizer_state: `(tx, opt_state) -> smaller opt_state`.
    """

    spec: Spec
    variables: Callable[[Any], Any] = field(repr=False)
    function: Callable[[Callable[..., Any]], Callable[..., Any]] = field(repr=False)
    optimizer_state: Callable[[PyTree, Batch], Array] = field(repr=False)


def chain(*compressions: Compression) -> Compression:
    """Apply compressions one after the other; nested chains are flattened.

    variables = last.variables(... first.variables(variables)), and the same for functions and
    optimizer states.

    Example:
        >>> chain().variables({"a": 1.0})
        {'a': 1.0}
    """
    steps = [step for one in compressions for step in steps_of(one)]

    def variables(tree: PyTree) -> PyTree:
        for step in steps:
            tree = step.variables(tree)
        return tree

    def function(f: Function) -> Function:
        for step in steps:
            f = step.function(f)
        return f

    def optimizer_state(tx: optax.GradientTransformation, opt_state: PyTree) -> PyTree:
        for step in steps:
            opt_state = step.optimizer_state(tx, opt_state)
        return opt_state

    if len(steps) == 1:
        return steps[0]
    spec = {"kind": "chain", "steps": [dict(step.spec) for step in steps]}
    return _Chain(spec, variables, function, optimizer_state, tuple(steps))


@dataclass(frozen=True)
class _Chain(Compression):
    steps: tuple[Compression, ...] = ()


def steps_of(compression: Compression) -> tuple[Compression, ...]:
    """Return the compressions that a chain applies, in order; of any other, itself."""
    return compression.steps if isinstance(compression, _Chain) else (compression,)
