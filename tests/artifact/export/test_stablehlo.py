"""StableHLO programs give the function's values, at any batch, for variables by path."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxcompress.artifact import export_stablehlo, load_stablehlo
from jaxcompress.artifact.export.stablehlo import opened
from jaxcompress.compression import chain
from jaxcompress.graph import trace
from jaxcompress.low_rank import factorize
from jaxcompress.models import build, evaluation_function
from tests.artifact.small import CONFIG, Small, mlp


@pytest.fixture(scope="module")
def apply() -> Any:
    return evaluation_function(build("resnet20", **CONFIG))


@pytest.fixture(scope="module")
def program(resnet: Small, images: jax.Array, apply: Any) -> bytes:
    return export_stablehlo(resnet.prune.function(apply), resnet.small, images)


def test_a_shrunk_network_runs_at_any_batch(
    resnet: Small, images: jax.Array, apply: Any, program: bytes
) -> None:
    more = jnp.concatenate([images, -images, 2 * images])
    loaded = jax.jit(load_stablehlo(program))
    for batch in (images, more):
        expected = jax.jit(resnet.prune.function(apply))(resnet.small, batch)
        np.testing.assert_allclose(loaded(resnet.small, batch), expected, atol=1e-5)
    assert float(jnp.abs(expected).max()) > 1e-3


def test_a_program_is_for_three_platforms_and_holds_neither_numbers_nor_files(
    resnet: Small, program: bytes
) -> None:
    assert opened(program)[0].platforms == ("cpu", "cuda", "tpu")
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(resnet.small))
    one = np.asarray(resnet.small["params"]["stem_conv"]["kernel"]).tobytes()
    assert one not in program and b".py" not in program and len(program) < 60_000 < weights * 100


def test_a_factorized_function_of_dicts_and_lists_of_inputs(plain: Small) -> None:
    def apply(variables: Any, inputs: Any, scales: Any) -> Any:
        return {"out": mlp(variables, inputs["x"]) * scales[0], "sum": scales[1].sum()}

    inputs, scales = {"x": jnp.ones((2, 3))}, [jnp.full((2, 1), 3.0), jnp.arange(2.0)]
    ranks = factorize(trace(apply, plain.variables, inputs, scales), {"a/kernel": 2})
    small, function = ranks.variables(plain.variables), ranks.function(apply)
    loaded = load_stablehlo(export_stablehlo(function, small, inputs, scales))
    actual, expected = loaded(small, inputs, scales), function(small, inputs, scales)
    # Trees of other containers cannot be mapped together.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), actual, expected)


def test_variables_in_other_containers_are_taken_by_path() -> None:
    def apply(layers: Any, x: jax.Array) -> jax.Array:
        for kernel in layers:
            x = x @ kernel
        return x

    # Ten and two: by name `10` comes before `2`.
    layers = [jax.random.normal(jax.random.key(n), (3, 3)) for n in range(11)]
    loaded = load_stablehlo(export_stablehlo(apply, layers, jnp.ones((1, 3))))
    expected = apply(layers, jnp.ones((2, 3)))
    np.testing.assert_allclose(loaded(layers, jnp.ones((2, 3))), expected, rtol=1e-5)
    by_path = {str(n): layer for n, layer in enumerate(layers)}
    np.testing.assert_allclose(loaded(by_path, jnp.ones((2, 3))), expected, rtol=1e-5)


def test_random_keys_are_variables_too() -> None:
    def apply(variables: Any, x: jax.Array) -> jax.Array:
        return x + jax.random.normal(variables["key"], (3,))

    variables, x = {"key": jax.random.key(3)}, jnp.ones((2, 3))
    loaded = load_stablehlo(export_stablehlo(apply, variables, x))
    np.testing.assert_array_equal(loaded(variables, x), apply(variables, x))


def test_other_variables_are_refused_by_path(resnet: Small, program: bytes, images: Any) -> None:
    params = {**resnet.small["params"], "stem_conv": {"kernel": jnp.ones((3, 3, 3, 9))}}
    with pytest.raises(ValueError, match=r"stem_conv/kernel: float32\[3, 3, 3, 9\] instead of .*3"):
        load_stablehlo(program)({**resnet.small, "params": params}, images)


def test_platforms_are_known_ones() -> None:
    for platforms in ("cpu", (), ["cpu", "gpu"]):
        with pytest.raises(ValueError, match="platforms are a list of cpu, cuda, tpu, rocm"):
            export_stablehlo(mlp, {}, jnp.ones(2), platforms=platforms)


def test_damaged_and_other_programs_are_refused(program: bytes) -> None:
    exported = export.export(jax.jit(lambda x, y: x + y))(jnp.ones(2), jnp.ones(2))
    for wrong in (b"", b"nothing", program[: len(program) // 3], bytes(exported.serialize())):
        with pytest.raises(ValueError, match="must be what `export_stablehlo` returned|another"):
            load_stablehlo(wrong)


def test_a_program_that_calls_python_is_refused() -> None:
    def hostile(leaves: Any, x: jax.Array) -> jax.Array:
        return jax.ffi.ffi_call("xla_ffi_python_cpu_callback", x)(x)

    allowed = [export.DisabledSafetyCheck.custom_call("xla_ffi_python_cpu_callback")]
    made = export.export(jax.jit(hostile), disabled_checks=allowed)({"a": jnp.ones(2)}, jnp.ones(2))
    with pytest.raises(ValueError, match=r"it calls \['xla_ffi_python_cpu_callback'\]"):
        load_stablehlo(bytes(made.serialize()))


def test_what_is_not_compressed_is_exported_too(plain: Small) -> None:
    x = jnp.ones((2, 3))
    loaded = load_stablehlo(export_stablehlo(chain().function(mlp), plain.variables, x))
    np.testing.assert_allclose(loaded(plain.variables, x), mlp(plain.variables, x), rtol=1e-6)
