"""The one place that touches what JAX does not export: binding an equation, and source lines.

Everything else in the library uses public JAX. `tests/graph/test_internals.py` holds this module
to each supported JAX version.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import jax
from jax._src import config, source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from jax.typing import DTypeLike

from jaxcompress.annotations import Array
from jaxcompress.per_device import per_device

__all__ = [
    "abstract",
    "bind",
    "closed",
    "dtype_of",
    "inner_jaxprs",
    "is_key",
    "is_literal",
    "located",
    "scan_counts",
    "shape_of",
    "source_line",
    "without_source_lines",
]


def bind(
    equation: JaxprEqn, values: Sequence[Array], changes: Mapping[str, Array] | None = None
) -> list[Array]:
    """Apply an equation's primitive to new values, with some of its parameters changed.

    The equation's own context (matmul precision, compute type, mesh) and source line are kept, as
    `jax.core.eval_jaxpr` does.
    """
    if equation.primitive.name == "pvary":
        # What differs between devices already, as with gates that do, needs no mark.
        return [per_device(values[0], tuple(equation.params["axes"]))]
    params = {**equation.params, **(changes or {})}
    bind_params = equation.primitive.get_bind_params(params)
    name_stack = source_info_util.current_name_stack() + equation.source_info.name_stack
    user_context = source_info_util.user_context(
        equation.source_info.traceback, name_stack=name_stack
    )
    with user_context, equation.ctx.manager:
        result = equation.primitive.bind(*values, **bind_params)
    return list(result) if equation.primitive.multiple_results else [result]


def dtype_of(atom: Any) -> Any:
    """Return the dtype of a variable or literal of a jaxpr."""
    return atom.aval.dtype


def source_line(equation: JaxprEqn) -> str:
    """Return ``file:line (function)`` of the code that made an equation.

    The innermost frame outside of installed packages is named; where there is none, the innermost.
    """
    frames = list(_frames(equation))
    outside = [frame for frame in frames if "site-packages" not in frame.file_name]
    chosen = (outside or frames)[:1]
    if not chosen:
        return "unknown source"
    return f"{chosen[0].file_name}:{chosen[0].start_line} ({chosen[0].function_name})"


def without_source_lines() -> contextlib.AbstractContextManager[None]:
    """Lower programs without the files and lines that their operations came from."""
    return cast(contextlib.AbstractContextManager[None], config.traceback_in_locations_limit(0))


def located(equation: JaxprEqn, caller: JaxprEqn | None) -> JaxprEqn:
    """Return an equation with its caller's source where it has no user's: `jnp.roll`, einsum."""
    if caller is None or any(True for _ in _frames(equation)):
        return equation
    return equation.replace(source_info=caller.source_info)


def _frames(equation: JaxprEqn) -> Iterator[Any]:
    return iter(source_info_util.user_frames(equation.source_info.traceback))


def abstract(value: Array, shape: Sequence[int] | None = None) -> Array:
    """Return the abstract value of an array, at another shape if one is given.

    The dtype, weak type, sharding and varying mesh axes are those of `value`.
    """
    is_abstract = isinstance(value, jax.ShapeDtypeStruct | jax.core.ShapedArray)
    aval = value if is_abstract else jax.typeof(value)
    return aval if shape is None or tuple(shape) == aval.shape else aval.update(shape=tuple(shape))


def closed(jaxpr: Any) -> ClosedJaxpr:
    """Return a jaxpr parameter as a closed one: some primitives hold it open, without constants."""
    return jaxpr if hasattr(jaxpr, "jaxpr") else ClosedJaxpr(jaxpr, ())


def inner_jaxprs(equation: JaxprEqn) -> list[ClosedJaxpr]:
    """Return every jaxpr among an equation's parameters, directly or in a tuple or list."""
    jaxprs = []
    for parameter in equation.params.values():
        entries = parameter if isinstance(parameter, tuple | list) else (parameter,)
        jaxprs += [closed(entry) for entry in entries if isinstance(entry, ClosedJaxpr | Jaxpr)]
    return jaxprs


def scan_counts(equation: JaxprEqn) -> tuple[int, int]:
    """Return how many operands of a scan are constants, and how many its carry."""
    params = equation.params
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    # Since JAX 0.11 a tree of the operands says it.
    constants, carry, _ = (len(list(part)) for part in params["ft_in"].unpack())
    return constants, carry


def is_literal(atom: Any) -> bool:
    """Tell whether an equation's input is a literal, written into the jaxpr itself."""
    return isinstance(atom, Literal)


def is_key(dtype: DTypeLike | None) -> bool:
    """Tell whether a dtype is that of typed random keys."""
    return jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def shape_of(atom: Any) -> tuple[int, ...]:
    """Return the shape of a jaxpr's variable or literal."""
    return tuple(atom.aval.shape)
