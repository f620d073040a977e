"""Each export and the runtime that runs it: a call from images to logits, and the file's bytes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.exports.networks import Small
from jaxcompress.annotations import Array
from jaxcompress.artifact import export_litert, export_onnx, export_stablehlo, load_stablehlo
from jaxcompress.backend import fast_convolutions

__all__ = ["NEEDS", "RUNTIMES", "Ready", "missing"]


class Ready(NamedTuple):
    """An export, loaded: the call, and the bytes of its file; None where it has none."""

    call: Callable[[np.ndarray], Array]
    bytes: int | None = None


def _jax(small: Small, images: np.ndarray) -> Ready:
    run = jax.jit(small.function)
    return Ready(lambda images: run(small.variables, images))


def _jax_fast(small: Small, images: np.ndarray) -> Ready:
    run = jax.jit(fast_convolutions(small.function))
    return Ready(lambda images: run(small.variables, images))


def _stablehlo(small: Small, images: np.ndarray) -> Ready:
    program = export_stablehlo(small.function, small.variables, images)
    run = jax.jit(load_stablehlo(program))
    return Ready(lambda images: run(small.variables, images), len(program))


def _onnx(small: Small, images: np.ndarray) -> Ready:
    import onnxruntime

    model = export_onnx(small.function, small.variables, images)
    session = onnxruntime.InferenceSession(model)
    return Ready(lambda images: session.run(None, {"input_0": images})[0], len(model))


def _litert(small: Small, images: np.ndarray) -> Ready:
    from ai_edge_litert.interpreter import Interpreter

    model = export_litert(small.function, small.variables, images)
    interpreter: Any = Interpreter(model_content=model, num_threads=2)
    runner = interpreter.get_signature_runner()
    return Ready(lambda images: runner(input_0=images)["output_0"], len(model))


RUNTIMES: Mapping[str, Callable[[Small, np.ndarray], Ready]] = {
    "jax": _jax,
    "jax, fast_convolutions": _jax_fast,
    "stablehlo": _stablehlo,
    "onnx": _onnx,
    "litert": _litert,
}
"""From the network and images of the size that it will be called with."""

NEEDS = {"onnx": ("jax2onnx", "onnxruntime"), "litert": ("litert_converter", "ai_edge_litert")}


def missing(runtime: str) -> list[str]:
    """Name the modules that a runtime needs and that are not installed."""
    return [name for name in NEEDS.get(runtime, ()) if importlib.util.find_spec(name) is None]
