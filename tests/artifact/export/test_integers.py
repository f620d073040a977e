"""Networks in integers leave as floats of the same codes, and answer as the integers do."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.artifact import export_litert, export_onnx
from jaxcompress.models import build, evaluation_function, initialize
from tests.artifact.export.digits import digits
from tests.artifact.export.test_litert import ran as ran_by_litert
from tests.artifact.export.test_onnx import ran as ran_by_onnx
from tests.artifact.small import CONFIG, half

pytest.importorskip("qwix", reason="needs the extra `quantize`")
TOLERANCE = 1e-4
"""Of the largest logit: the same codes and scales, multiplied in floats instead of integers, round
differently where an input lies between two codes."""


@pytest.fixture(scope="module")
def integers() -> tuple[Any, Any, Any, jax.Array]:
    """Return the integers' function, that in floats, the codes, and images."""
    images = digits(6)
    module = build("resnet8", **CONFIG)
    apply = evaluation_function(module)
    variables = initialize(module, jax.random.key(0), images.shape)
    small = half(apply, variables, images)
    pruned = small.prune.function(apply)
    result = jc.recipes.quantize(pruned, small.small, [images], activations="static")
    floats = jc.quantization.float_arithmetic(result.compression, pruned)
    return result.compression.function(pruned), floats, result.variables, images


def compared(actual: np.ndarray, function: Any, codes: Any, images: jax.Array) -> None:
    expected = np.asarray(jax.jit(function)(codes, images))
    assert np.abs(expected).max() > 0.01
    assert np.abs(actual - expected).max() < TOLERANCE * np.abs(expected).max()


def test_onnx(integers: Any) -> None:
    pytest.importorskip("jax2onnx", reason="jax2onnx writes ONNX models")
    function, floats, codes, images = integers
    model = export_onnx(floats, codes, images[:2])
    compared(ran_by_onnx(model, images)[0], function, codes, images)


def test_litert(integers: Any) -> None:
    pytest.importorskip("litert_converter", reason="litert-converter writes LiteRT models")
    function, floats, codes, images = integers
    model = export_litert(floats, codes, images)
    compared(ran_by_litert(model, input_0=np.asarray(images)), function, codes, images)
