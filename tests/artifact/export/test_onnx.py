"""ONNX models, run by onnxruntime on real digits, give what the compressed functions give."""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.artifact import export_onnx
from jaxcompress.compression import chain
from jaxcompress.graph import trace
from jaxcompress.low_rank import factorize
from jaxcompress.models import build, evaluation_function, initialize
from tests.artifact.export.digits import digits
from tests.artifact.small import CONFIG, half


def ran(model: bytes, *inputs: Any) -> list[np.ndarray]:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs ONNX models")
    session = runtime.InferenceSession(model)
    named = {f"input_{index}": np.asarray(value) for index, value in enumerate(inputs)}
    results: list[np.ndarray] = session.run(None, named)
    return results


@pytest.fixture
def converter() -> Any:
    return pytest.importorskip("jax2onnx", reason="jax2onnx writes ONNX models")


def test_a_pruned_and_factorized_resnet_at_any_batch(converter: Any) -> None:
    images = digits(6)
    module = build("resnet8", **CONFIG)
    apply = evaluation_function(module)
    variables = initialize(module, jax.random.key(0), images.shape)
    small = half(apply, variables, images)
    pruned = small.prune.function(apply)
    ranks = {"params/stage3_block0/conv2/kernel": 2}
    lowrank = factorize(trace(pruned, small.small, images), ranks)
    function = chain(small.prune, lowrank).function(apply)
    factors = lowrank.variables(small.small)
    model = export_onnx(function, factors, images[:2])
    for batch in (images[:2], images):
        expected = jax.jit(function)(factors, batch)
        np.testing.assert_allclose(ran(model, batch)[0], expected, atol=1e-4)
    assert float(jnp.abs(expected).max()) > 0.01


def test_an_encoder_of_tokens_and_its_dict_of_answers(converter: Any) -> None:
    config = {"vocabulary": 50, "positions": 16}
    module = build("minilm_l6", **config).clone(width=24, depth=1, heads=2, mlp_width=32)
    tokens = jnp.asarray(np.random.default_rng(0).integers(1, 49, (3, 16)), jnp.int32)
    apply = evaluation_function(module)
    small = half(apply, initialize(module, jax.random.key(0), tokens), tokens)
    function = small.prune.function(apply)
    results = ran(export_onnx(function, small.small, tokens), tokens)
    expected = jax.tree.leaves(function(small.small, tokens))
    assert len(results) == len(expected) == 2
    for actual, leaf in zip(results, expected, strict=True):
        np.testing.assert_allclose(actual, leaf, atol=1e-4)


def test_what_jax2onnx_cannot_convert_is_named(converter: Any) -> None:
    def unknown(variables: Any, x: jax.Array) -> jax.Array:
        return jax.lax.linalg.eigh(x[:, :, None] * x[:, None, :])[1]

    with pytest.raises(ValueError, match=r"eigh at .*test_onnx\.py:\d+ \(.*unknown\)"):
        export_onnx(unknown, {}, jnp.ones((2, 3)))


def test_without_jax2onnx_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(ImportError, match="requirements-exports.txt"):
        export_onnx(lambda variables, x: x, {}, jnp.ones((2, 3)))
