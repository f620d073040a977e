"""What can leave JAX: no calls of the host, no call of one compiler, sizes known but for the batch.

Everything is looked at in the jaxpr, before anything is lowered.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
from jax.export import symbolic_shape
from jax.extend.core import ClosedJaxpr, JaxprEqn, jaxpr_as_fun

from jaxcompress.annotations import Function, PyTree
from jaxcompress.graph.internals import dtype_of, inner_jaxprs, is_key, located, source_line
from jaxcompress.graph.symbolic import is_symbolic

__all__ = [
    "Traced",
    "abstract_inputs",
    "check_convolutions",
    "equations",
    "first_line",
    "traced",
]

HOST = ("pure_callback", "io_callback", "debug_callback", "debug_print")
PACKAGE = str(Path(__file__).parents[2])
BATCH = "batch"


class Traced(NamedTuple):
    """A function, read and found fit to be exported.

    Attributes:
        jaxpr: of its flat arguments.
        arguments: their shapes and dtypes, in the containers that they came in.
        outputs: the same of the results.
        call: the function, of arguments in these containers.
    """

    jaxpr: ClosedJaxpr
    arguments: tuple[PyTree, ...]
    outputs: PyTree
    call: Callable[..., PyTree]


def abstract_inputs(inputs: PyTree, batch_axis: int | None) -> PyTree:
    """Return inputs as shapes and dtypes, with a symbolic size, `batch`, on one axis of each.

    Inputs without that axis, and random keys, keep their shape.

    Raises:
        ValueError: if `batch_axis` is no axis of any input.

    Example:
        >>> abstract_inputs(jax.numpy.ones((2, 3)), 0)
        ShapeDtypeStruct(shape=(batch, 3), dtype=float32)
    """
    structs: PyTree = jax.eval_shape(lambda same: same, inputs)
    if batch_axis is None:
        return structs
    (batch,) = symbolic_shape(BATCH)

    def abstract(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        if len(leaf.shape) <= batch_axis or is_key(leaf.dtype):
            return leaf
        shape = (*leaf.shape[:batch_axis], batch, *leaf.shape[batch_axis + 1 :])
        return jax.ShapeDtypeStruct(shape, leaf.dtype)

    changed = jax.tree.map(abstract, structs)
    if not any(is_symbolic(*leaf.shape) for leaf in jax.tree.leaves(changed)):
        shapes = [leaf.shape for leaf in jax.tree.leaves(structs)]
        raise ValueError(
            f"the axis of examples is one of the inputs', but there is no axis {batch_axis} in "
            f"their shapes {shapes}; pass batch_axis=None where there are no examples"
        )
    return changed


def traced(
    function: Function,
    leaves: tuple[PyTree, ...],
    inputs: tuple[PyTree, ...],
    batch_axis: int | None,
) -> Traced:
    """Trace `function(*leaves, *inputs)` at a symbolic batch, refusing what cannot be exported.

    Args:
        function: of both kinds of arguments.
        leaves: arguments that have no batch.
        inputs: arguments of which `batch_axis` may have any size.
        batch_axis: None: only their shapes.

    Raises:
        ValueError: naming every call of the host or of a compiler's own kernel with its line; the
            line whose shapes depend on values; or the line that needs the batch as a number.
    """
    symbolic = abstract_inputs(inputs, batch_axis)
    try:
        program = _read(function, (*leaves, *abstract_inputs(inputs, None)))
    except (jax.errors.ConcretizationTypeError, jax.errors.NonConcreteBooleanIndexError) as error:
        raise ValueError(
            f"an exported program has the shapes and branches that its trace had, but at "
            f"{_line(error)} they depend on values: {first_line(error)}; use jnp.where, "
            "jax.lax.cond, or a static size"
        ) from error
    _check_calls(program.jaxpr)
    if batch_axis is None:
        return program
    try:
        return _read(function, (*leaves, *symbolic))
    except Exception as error:  # the same trace went well at numbers, so the symbol is the reason
        shapes = [leaf.shape for leaf in jax.tree.leaves(symbolic) if is_symbolic(*leaf.shape)]
        raise ValueError(
            f"the inputs are exported as {shapes}, of any size along axis {batch_axis}, but at "
            f"{_line(error)} that size, `{BATCH}`, must be a number: {first_line(error)}; take it "
            "from the input's shape there, or pass batch_axis=None for these shapes alone"
        ) from error


def _read(function: Function, arguments: tuple[PyTree, ...]) -> Traced:
    jaxpr, outputs = jax.make_jaxpr(function, return_shape=True)(*arguments)
    flat: Function = jaxpr_as_fun(jaxpr)

    def call(*arguments: PyTree) -> PyTree:
        return jax.tree.unflatten(jax.tree.structure(outputs), flat(*jax.tree.leaves(arguments)))

    return Traced(jaxpr, arguments, outputs, call)


def equations(jaxpr: ClosedJaxpr, caller: JaxprEqn | None = None) -> Iterator[tuple[JaxprEqn, str]]:
    """Yield every equation, those of inner jaxprs included, with its line of code.

    Example:
        >>> jaxpr = jax.make_jaxpr(jax.jit(lambda x: x + 1))(1.0)
        >>> [equation.primitive.name for equation, _ in equations(jaxpr)]
        ['jit', 'add']
    """
    for equation in jaxpr.jaxpr.eqns:
        placed = located(equation, caller)
        yield equation, source_line(placed)
        for inner in inner_jaxprs(equation):
            yield from equations(inner, placed)


def check_convolutions(jaxpr: ClosedJaxpr, what: str) -> None:
    """Raise if a program convolves integers.

    Args:
        jaxpr: of the program.
        what: the format that has no such convolution.

    Raises:
        ValueError: naming every line that does.
    """
    wrong = [
        line
        for equation, line in equations(jaxpr)
        if equation.primitive.name == "conv_general_dilated"
        and jax.numpy.issubdtype(dtype_of(equation.invars[0]), jax.numpy.integer)
    ]
    if wrong:
        raise ValueError(
            f"{what} convolves floats alone, but integers are convolved at "
            f"{'; '.join(dict.fromkeys(wrong))}; export jc.quantization.float_arithmetic("
            "compression, apply), which keeps the codes, or StableHLO"
        )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _check_calls(jaxpr: ClosedJaxpr) -> None:
    wrong = []
    for equation, line in equations(jaxpr):
        name = equation.primitive.name
        if name in HOST:
            wrong.append(f"{name} at {line} calls this Python process")
        elif name == "ffi_call":
            target = equation.params["target_name"]
            wrong.append(f"{name} at {line} calls {target!r}, a kernel of one compiler")
    if wrong:
        raise ValueError(
            f"an exported program must run without this process and on any compiler, but "
            f"{'; '.join(dict.fromkeys(wrong))}; export the function without callbacks, prints "
            "and backend.fast_convolutions"
        )


def _line(error: BaseException) -> str:
    """Return ``file:line (function)`` where an error arose, in a user's code if any."""
    frames = traceback.extract_tb(error.__traceback__)
    chosen = [frame for frame in frames if _is_users(frame.filename)] or list(frames)
    return f"{chosen[-1].filename}:{chosen[-1].lineno} ({chosen[-1].name})"


def _is_users(file: str) -> bool:
    is_rewriting = file.startswith(PACKAGE) and not file.startswith(f"{PACKAGE}/models")
    return "site-packages" not in file and not is_rewriting
