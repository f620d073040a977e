"""Quantization: kernels as integers and scales, and contractions in integers, by qwix.

    ranges = jc.quantization.input_ranges(graph, apply, variables, batches)
    integers = jc.quantize(graph, activations="static", ranges=ranges)
    small_apply, small = integers.function(apply), integers.variables(variables)

It comes last in a chain. `fake_quantized` is the same function of floats, to be trained;
`dequantized_variables` are the floats that codes stand for. Needs the extra `quantize`.
"""

from __future__ import annotations

from jaxcompress.quantization.calibrating import input_ranges
from jaxcompress.quantization.checks import quantizable
from jaxcompress.quantization.quantizing import quantize
from jaxcompress.quantization.training import (
    dequantized_variables,
    fake_quantized,
    float_arithmetic,
    float_steps,
)

__all__ = [
    "dequantized_variables",
    "fake_quantized",
    "float_arithmetic",
    "float_steps",
    "input_ranges",
    "quantizable",
    "quantize",
]
