"""Each export and the runtime that runs it: a call from inputs to outputs, and the file's bytes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.artifact import export_litert, export_onnx, export_stablehlo, load_stablehlo
from jaxcompress.backend import fast_convolutions

__all__ = ["NEEDS", "RUNTIMES", "Ready", "missing"]


class Ready(NamedTuple):
    """An export, loaded: the call, and its file; None where it has none."""

    call: Callable[[np.ndarray], Array]
    file: bytes | None = None


def _jax(function: Function, variables: PyTree, images: np.ndarray) -> Ready:
    run = jax.jit(function)
    return Ready(lambda images: run(variables, images))


def _jax_fast(function: Function, variables: PyTree, images: np.ndarray) -> Ready:
    run = jax.jit(fast_convolutions(function))
    return Ready(lambda images: run(variables, images))


def _stablehlo(function: Function, variables: PyTree, images: np.ndarray) -> Ready:
    program = export_stablehlo(function, variables, images)
    run = jax.jit(load_stablehlo(program))
    return Ready(lambda images: run(variables, images), program)


def _onnx(function: Function, variables: PyTree, images: np.ndarray) -> Ready:
    import onnxruntime

    model = export_onnx(function, variables, images)
    session = onnxruntime.InferenceSession(model)
    return Ready(lambda images: session.run(None, {"input_0": images})[0], model)


def _litert(function: Function, variables: PyTree, images: np.ndarray) -> Ready:
    from ai_edge_litert.interpreter import Interpreter

    model = export_litert(function, variables, images)
    interpreter: Any = Interpreter(model_content=model, num_threads=2)
    runner = interpreter.get_signature_runner()
    return Ready(lambda images: runner(input_0=images)["output_0"], model)


RUNTIMES: Mapping[str, Callable[[Function, PyTree, np.ndarray], Ready]] = {
    "jax": _jax,
    "jax, fast_convolutions": _jax_fast,
    "stablehlo": _stablehlo,
    "onnx": _onnx,
    "litert": _litert,
}
"""From a function of (variables, images), and images of the size that it will be called with."""

NEEDS = {"onnx": ("jax2onnx", "onnxruntime"), "litert": ("litert_converter", "ai_edge_litert")}


def missing(runtime: str) -> list[str]:
    """Name the modules that a runtime needs and that are not installed."""
    return [name for name in NEEDS.get(runtime, ()) if importlib.util.find_spec(name) is None]
