"""LiteRT models, run by LiteRT's interpreter on real digits, give what the functions give."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.artifact import Encoding, export_litert, load, save
from jaxcompress.models import build, evaluation_function, initialize
from tests.artifact.export.digits import digits
from tests.artifact.small import CONFIG, Small, half


def ran(model: bytes, **inputs: Any) -> np.ndarray:
    reason = "ai-edge-litert runs LiteRT models"
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason=reason)
    runner = interpreter.Interpreter(model_content=model).get_signature_runner()
    result: np.ndarray = runner(**inputs)["output_0"]
    return result


@pytest.fixture
def converter() -> Any:
    return pytest.importorskip("litert_converter", reason="litert-converter writes LiteRT models")


@pytest.fixture
def images() -> jax.Array:
    return digits(4)


@pytest.fixture
def apply() -> Any:
    return evaluation_function(build("resnet8", **CONFIG))


@pytest.fixture
def pruned(images: jax.Array, apply: Any) -> Small:
    variables = initialize(build("resnet8", **CONFIG), jax.random.key(0), images.shape)
    return half(apply, variables, images)


def test_a_pruned_resnet(converter: Any, images: jax.Array, apply: Any, pruned: Small) -> None:
    function = pruned.prune.function(apply)
    expected = jax.jit(function)(pruned.small, images)
    model = export_litert(function, pruned.small, images)
    np.testing.assert_allclose(ran(model, input_0=np.asarray(images)), expected, atol=1e-4)
    assert float(jnp.abs(expected).max()) > 0.01


def test_int8_variables_are_exported_as_they_are_rounded(
    converter: Any, images: jax.Array, apply: Any, pruned: Small, tmp_path: Any
) -> None:
    save(tmp_path / "small", pruned.prune, pruned.small, encoding=Encoding("int8"))
    function, rounded = load(tmp_path / "small", apply)
    actual = ran(export_litert(function, rounded, images), input_0=np.asarray(images))
    np.testing.assert_allclose(actual, jax.jit(function)(rounded, images), atol=1e-4)
    exact = jax.jit(function)(pruned.small, images)
    assert 1e-5 < np.abs(actual - exact).max() < 0.05 * np.abs(exact).max()


def test_an_input_that_is_ignored_is_none_of_the_models(converter: Any) -> None:
    def apply(variables: Any, unused: jax.Array, x: jax.Array) -> jax.Array:
        return x @ variables["kernel"]

    x = np.ones((2, 3), np.float32)
    model = export_litert(apply, {"kernel": jnp.full((3, 2), 2.0)}, jnp.ones(5), x)
    np.testing.assert_array_equal(ran(model, input_1=x), np.full((2, 2), 6.0))


def test_what_the_converter_cannot_convert_is_refused(converter: Any) -> None:
    def unknown(variables: Any, x: jax.Array) -> jax.Array:
        return jax.lax.linalg.eigh(x[:, :, None] * x[:, None, :])[1]

    with pytest.raises(ValueError, match="litert-converter .* can convert, but"):
        export_litert(unknown, {}, jnp.ones((2, 3)))


def test_without_the_converter_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litert_converter", None)
    with pytest.raises(ImportError, match="requirements-exports.txt"):
        export_litert(lambda variables, x: x, {}, jnp.ones((2, 3)))
