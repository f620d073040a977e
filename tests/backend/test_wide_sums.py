"""Over a mesh, half precision is summed in float32: in the program, and in what it gives."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcompress import parallel
from jaxcompress.backend.wide_sums import wide_sums
from jaxcompress.training import init_state, jit_step, train_step

KEYS = jax.random.split(jax.random.key(0), 4)
VARIABLES = {
    "table": jax.random.normal(KEYS[0], (5, 4)),
    "kernel": jax.random.normal(KEYS[1], (4, 4)),
    "bias": jnp.zeros(4),
    "window": jax.random.normal(KEYS[2], (3, 4, 2)),
}
BATCH = jax.random.randint(KEYS[3], (16, 6), 0, 5)
SUM = r"stablehlo\.(dot_general|convolution).*-> tensor<[0-9x]*bf16>"


def loss(variables: Any, batch: jax.Array) -> jax.Array:
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
    hidden = half["table"][batch]

    @jax.checkpoint
    def layer(hidden: jax.Array, _: None) -> tuple[jax.Array, None]:
        return jnp.tanh(hidden @ half["kernel"] + half["bias"]), None

    hidden, _ = jax.lax.scan(layer, hidden, None, length=2)
    numbers = ("NHC", "HIO", "NHC")
    outputs = jax.lax.conv_general_dilated(
        hidden, half["window"], (1,), "SAME", dimension_numbers=numbers
    )
    return jnp.square(outputs.astype(jnp.float32)).mean()


def step(tx: optax.GradientTransformation) -> Any:
    return train_step(lambda variables, batch, key: (loss(variables, batch), ({}, {})), tx)


def test_no_contraction_is_in_half_precision() -> None:
    state, key = init_state(VARIABLES, optax.sgd(0.1)), jax.random.key(0)

    def program(function: Any) -> str:
        lowered = jax.jit(function).trace(state, BATCH, key).lower(lowering_platforms=("tpu",))
        return str(lowered.as_text())

    function = step(optax.sgd(0.1))
    assert len(re.findall(SUM, program(function))) > 5
    assert not re.findall(SUM, program(wide_sums(function)))
    jaxpr = str(jax.make_jaxpr(wide_sums(function))(state, BATCH, key))
    assert not re.findall(r"bf16\[[0-9,]*\] = (reduce_sum|scatter-add|dot_general)", jaxpr)
    assert re.findall(r"f32\[[0-9,]*\] = scatter-add", jaxpr)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_eight_devices_train_as_one() -> None:
    tx = optax.sgd(0.1)
    results = []
    for count in (1, 8):
        mesh = parallel.mesh(jax.devices()[:count])
        state = init_state(VARIABLES, tx)
        results.append(jit_step(step(tx), mesh)(state, BATCH, jax.random.key(0))[0].variables)
    exact = jax.grad(loss)(VARIABLES, BATCH)
    for name, one in results[0].items():
        assert np.abs(one - VARIABLES[name]).max() > 1e-4
        np.testing.assert_allclose(
            results[1][name], one, atol=0.1 * 2**-7 * np.abs(exact[name]).max()
        )


def test_float32_stays_as_it_is() -> None:
    function = jax.grad(lambda x: jnp.square(x @ x.T).sum())
    x = jnp.arange(6.0).reshape(2, 3)
    plain, wide = (str(jax.make_jaxpr(f)(x)) for f in (function, wide_sums(function)))
    assert plain == wide
