"""ONNX: a function and its variables as one file for onnxruntime and others, by jax2onnx.

jax2onnx 0.17 converts pads of known sizes only, so those of a symbolic batch become concatenations.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.artifact.export.exportable import (
    Traced,
    check_convolutions,
    equations,
    first_line,
    traced,
)
from jaxcompress.graph.internals import bind
from jaxcompress.graph.interpret import run
from jaxcompress.graph.symbolic import is_symbolic

__all__ = ["export_onnx"]

MOST_BYTES = 2**31 - 1
"""The largest message of protobuf."""


def export_onnx(
    function: Function, variables: PyTree, *inputs: PyTree, batch_axis: int | None = 0
) -> bytes:
    """Return `function(variables, *inputs)` and the variables as one ONNX model.

    Its inputs are `input_0`, `input_1`, ..., the leaves of `inputs` in tree order, laid out as in
    JAX (images `[batch, height, width, channels]`); its outputs `output_0`, ... Float32 stays
    float32. Needs jax2onnx; CONTRIBUTING.md says how to install it.

    Args:
        function: of (variables, *inputs), e.g. `compression.function(apply)`.
        variables: the compressed ones; they become constants of the model.
        inputs: examples, or their shapes and dtypes.
        batch_axis: the axis of the inputs whose size may be any; None: only these shapes.

    Raises:
        ImportError: without jax2onnx.
        ValueError: if something cannot be exported, naming the primitive and its line.

    Source: https://github.com/enpasos/jax2onnx, which writes opset 23 here.

    Example:
        >>> apply = lambda variables, x: x @ variables["kernel"]
        >>> variables, x = {"kernel": jnp.ones((3, 2))}, jnp.ones((1, 3))
        >>> model = export_onnx(apply, variables, x)  # doctest: +SKIP
    """
    require(batch_axis=integer(batch_axis, least=0, optional=True))
    try:
        import jax2onnx
    except ImportError as error:
        raise ImportError(
            f"ONNX models are written by jax2onnx, but it cannot be imported ({error}); install "
            "requirements-exports.txt, as CONTRIBUTING.md says"
        ) from error
    program = traced(lambda *inputs: function(variables, *inputs), (), inputs, batch_axis)
    check_convolutions(program.jaxpr, "ONNX")
    specifications: list[Array] = jax.tree.leaves(program.arguments)
    count = len(jax.tree.leaves(program.outputs))
    try:
        model = jax2onnx.to_onnx(
            _without_pads(program.jaxpr),
            specifications,
            model_name="jaxcompress",
            input_names=[f"input_{index}" for index in range(len(specifications))],
            output_names=[f"output_{index}" for index in range(count)],
        )
    except Exception as error:  # its plugins raise whatever they trip over
        raise ValueError(_refusal(program, error)) from error
    if model.ByteSize() > MOST_BYTES:
        raise ValueError(
            f"an ONNX model in one file has at most {MOST_BYTES} bytes, but this one has "
            f"{model.ByteSize()}; compress further, or export StableHLO"
        )
    return bytes(model.SerializeToString())


def _refusal(program: Traced, error: Exception) -> str:
    lines = [
        f"{equation.primitive.name} at {line}"
        for equation, line in equations(program.jaxpr)
        if re.search(rf"(^|['\"`]){equation.primitive.name}\b", str(error))
    ]
    return (
        f"ONNX models hold what jax2onnx {importlib.metadata.version('jax2onnx')} can convert, but "
        f"{'; '.join(dict.fromkeys(lines)) or 'it failed'}: {first_line(error):.300}; use other "
        "operations there, pass batch_axis=None, or export StableHLO"
    )


def _without_pads(jaxpr: ClosedJaxpr) -> Function:
    """Return the function of a jaxpr with pads of symbolic arrays as concatenations."""

    def step(index: int, equation: JaxprEqn, values: list[Array]) -> Sequence[Array]:
        if equation.primitive.name == "jit":
            return list(_without_pads(equation.params["jaxpr"])(*values))
        if equation.primitive.name == "pad" and is_symbolic(*values[0].shape):
            array, value = values
            return [_padded(array, value, equation.params["padding_config"])]
        return bind(equation, values)

    def function(*values: Array) -> Array:
        return run(jaxpr, jaxpr.consts, values, step, lambda atom: atom.val)

    return function


def _padded(array: Array, value: Array, padding: Sequence[tuple[int, int, int]]) -> Array:
    """Pad without gaps and cuts; one with these is left to `jax.lax.pad`."""
    if any(low < 0 or high < 0 or interior for low, high, interior in padding):
        return jax.lax.pad(array, value, padding)
    for axis, (low, high, _) in enumerate(padding):
        parts = [*_filled(value, array, axis, low), array, *_filled(value, array, axis, high)]
        array = jnp.concatenate(parts, axis) if len(parts) > 1 else array
    return array


def _filled(value: Array, array: Array, axis: int, size: int) -> list[Array]:
    shape = (*array.shape[:axis], size, *array.shape[axis + 1 :])
    return [jnp.broadcast_to(value, shape)] if size else []
