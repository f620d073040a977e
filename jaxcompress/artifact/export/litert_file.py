"""LiteRT (TFLite): a function and its variables as one file for phones, by LiteRT's own converter.

The converter reads the StableHLO that JAX writes: neither TensorFlow nor PyTorch takes part.
"""

from __future__ import annotations

import importlib.metadata

from jax import export

from jaxcompress.annotations import Function, PyTree
from jaxcompress.artifact.export.exportable import check_convolutions, traced
from jaxcompress.artifact.export.stablehlo import serialized

__all__ = ["export_litert"]

SIGNATURE = "serving_default"


def export_litert(function: Function, variables: PyTree, *inputs: PyTree) -> bytes:
    """Return `function(variables, *inputs)` and the variables as one LiteRT model.

    Its only signature takes `input_0`, `input_1`, ..., the leaves of `inputs` in tree order without
    those that the function ignores, of exactly these shapes, and gives `output_0`, ... Needs
    litert-converter; CONTRIBUTING.md says how to install it.

    Args:
        function: of (variables, *inputs), e.g. `compression.function(apply)`.
        variables: the compressed ones; they become constants of the model.
        inputs: examples, or their shapes and dtypes.

    Raises:
        ImportError: without litert-converter.
        ValueError: if something cannot be exported, naming the primitive and its line.

    Source: https://github.com/google-ai-edge/LiteRT, the package litert-converter.

    Example:
        >>> import jax.numpy as jnp
        >>> apply = lambda variables, x: x @ variables["kernel"]
        >>> variables, x = {"kernel": jnp.ones((3, 2))}, jnp.ones((1, 3))
        >>> model = export_litert(apply, variables, x)  # doctest: +SKIP
    """
    try:
        from litert_converter import _stablehlo, converter_api_ext
        from litert_converter.mlir import ir, passmanager
    except ImportError as error:
        raise ImportError(
            f"LiteRT models are written by litert-converter, but it cannot be imported ({error}); "
            "install requirements-exports.txt, as CONTRIBUTING.md says"
        ) from error
    program = traced(lambda *inputs: function(variables, *inputs), (), inputs, None)
    check_convolutions(program.jaxpr, "LiteRT")
    exported = export.deserialize(bytearray(serialized(program, ["cpu"])))
    names = [f"input_{index}" for index in exported.module_kept_var_idx]
    results = [f"output_{index}" for index in range(len(exported.out_avals))]
    context = ir.Context()
    converter_api_ext.prepare_mlir_context(context)
    try:
        with context:
            module = _stablehlo.deserialize_portable_artifact(
                context, exported.mlir_module_serialized
            )
            converter_api_ext.set_signature(module.operation, SIGNATURE, names, results)
            converter_api_ext.run_convert_to_tfl_passes(
                module, passmanager.PassManager(), converter_api_ext.ConvertToTFLConfig()
            )
            return bytes(converter_api_ext.export_flatbuffer_to_bytes(module.operation))
    except Exception as error:  # MLIR's errors have no common type
        raise ValueError(
            "LiteRT models hold what litert-converter "
            f"{importlib.metadata.version('litert-converter')} can convert, but {error!s:.500}; "
            "use other operations, or export ONNX or StableHLO"
        ) from error
