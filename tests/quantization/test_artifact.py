"""Networks in integers, in files and as programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcompress as jc
from jaxcompress.artifact.export.exportable import check_convolutions
from jaxcompress.artifact.shape_schema import Shapes
from jaxcompress.artifact.spec_schema import shapes_before
from tests.toys.record import draw, rows

pytest.importorskip("qwix", reason="the extra `quantize` is not installed")

X = rows(8, 6)
VARIABLES = draw(0, {"a": (6, 5), "b": (5, 3)})


def apply(variables: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ variables["a"]) @ variables["b"]


GRAPH = jc.trace(apply, VARIABLES, X)
LOADS = """
import sys
import numpy as np
import jaxcompress as jc
from tests.quantization.test_artifact import X, apply
function, variables = jc.load(sys.argv[1], apply)
np.save(sys.argv[2], function(variables, X))
"""


@pytest.mark.parametrize("bits", [8, 4])
def test_a_fresh_process_computes_the_same_from_a_file(tmp_path: Path, bits: int) -> None:
    ranges = {"a": 3.0, "b": 1.0}
    integers = jc.quantize(GRAPH, bits, activations="static", ranges=ranges)
    small = integers.variables(VARIABLES)
    jc.save(tmp_path / "small", integers, small, encoding=jc.artifact.Encoding("int8"))
    arguments = [sys.executable, "-c", LOADS, str(tmp_path / "small"), str(tmp_path / "y.npy")]
    subprocess.run(arguments, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), integers.function(apply)(small, X))


def test_a_spec_that_does_not_fit_its_codes_is_refused() -> None:
    spec = jc.quantize(GRAPH, activations="static", ranges={"a": 3.0, "b": 1.0}).spec
    shapes: Shapes = {"a/codes": (6, 5), "a/scales": (1, 5), "b/codes": (5, 3), "b/scales": (1, 3)}
    assert shapes_before(spec, shapes, {}) == ([], {"a": (6, 5), "b": (5, 3)})
    for change in (
        {"bits": 4},
        {"bits": 2},
        {"tile": 4},
        {"candidates": 0},
        {"range": 0.0},
        {"range": [1.0]},
        {"activations": "int8"},
        {"dtype": "int8"},
        {"layout": {"contracted": [0], "batch": [], "free": [0]}},
    ):
        wrong = {**spec, "sites": {**spec["sites"], "a": {**spec["sites"]["a"], **change}}}
        (problem,) = shapes_before(wrong, shapes, {})[0]
        assert problem.startswith("spec: a: "), change


def test_scales_that_are_no_scales_are_not_saved(tmp_path: Path) -> None:
    integers = jc.quantize(GRAPH)
    small = integers.variables(VARIABLES)
    small["a"]["scales"] = small["a"]["scales"].at[0, 1].set(0.0)
    with pytest.raises(ValueError, match=r"above 0, but \['a/scales'\] are not"):
        jc.save(tmp_path / "small", integers, small)


def test_integer_convolutions_are_refused_where_there_are_none() -> None:
    def convolved(variables: Any, x: jax.Array) -> jax.Array:
        return jax.lax.conv(x, variables["k"], (1, 1), "SAME")

    variables, x = draw(1, {"k": (4, 3, 3, 3)}), rows(2, 3, 5, 5)
    integers = jc.quantize(jc.trace(convolved, variables, x), activations="dynamic")
    small = integers.variables(variables)
    with pytest.raises(ValueError, match="ONNX convolves floats alone, but integers are"):
        check_convolutions(jax.make_jaxpr(integers.function(convolved))(small, x), "ONNX")
    floats = jc.quantization.float_arithmetic(integers, convolved)
    check_convolutions(jax.make_jaxpr(floats)(small, x), "ONNX")
    expected = integers.function(convolved)(small, x)
    np.testing.assert_allclose(floats(small, x), expected, atol=1e-5)
