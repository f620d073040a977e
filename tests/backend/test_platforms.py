"""What is lowered here for another platform holds nothing that is for this host's processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from jaxcompress import parallel
from jaxcompress.backend import fast_convolutions, onednn
from jaxcompress.per_device import slope
from jaxcompress.prune.importance.inner_steps import adapt

NUMBERS = ("NHWC", "HWIO", "NHWC")
KERNEL = jax.random.normal(jax.random.key(0), (3, 3, 32, 32)) / 16
IMAGES = jax.random.normal(jax.random.key(1), (16, 32, 32, 32))
# A choice that is made already stays a `stablehlo.case` of one branch, which XLA takes away.
FORMS = ("stablehlo.custom_call", "stablehlo.while")


def loss(kernel: jax.Array, images: jax.Array) -> jax.Array:
    for _ in range(2):
        images = jax.lax.conv_general_dilated(
            jax.nn.relu(images), kernel, (1, 1), "SAME", dimension_numbers=NUMBERS
        )
    return jnp.square(images).mean()


def counts(function: Callable[..., Any], platform: str, *args: Any) -> dict[str, int]:
    """Count what a processor has forms of its own for in the program for a platform."""
    lowered = jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text()
    return {form: lowered.count(form) for form in FORMS}


@pytest.mark.skipif(not onednn.available(), reason="this jaxlib is not known to carry oneDNN")
@pytest.mark.parametrize("platform", ["tpu", "cuda", "cpu"])
def test_fast_convolutions_are_for_the_cpu_alone(platform: str) -> None:
    plain = jax.grad(loss)
    actual = counts(fast_convolutions(plain), platform, KERNEL, IMAGES)
    desired = counts(plain, platform, KERNEL, IMAGES)
    assert (actual == desired) == (platform != "cpu"), (actual, desired)


def adapted(kernel: jax.Array, batches: jax.Array) -> Any:
    def gated(kernel: Any, gate: Any, batch: Any) -> jax.Array:
        return jnp.square(batch @ kernel * gate).mean()

    def after(gate: jax.Array) -> jax.Array:
        return jnp.square(adapt(gated, kernel, gate, batches, optax.sgd(0.1))[0]).sum()

    return jax.grad(after)(jnp.ones(2))


def test_inner_steps_are_a_loop_but_on_the_cpu() -> None:
    kernel, batches = jnp.ones((3, 2)), jnp.ones((4, 5, 3))
    loops = {p: counts(adapted, p, kernel, batches)["stablehlo.while"] for p in ("cpu", "tpu")}
    assert loops == {"cpu": 0, "tpu": 2}  # forward and back
    assert sum(counts(adapted, "tpu", kernel, batches[:1]).values()) == 0


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("check", [True, False])
def test_fast_convolutions_inside_shard_map(check: bool) -> None:
    def gradient(kernel: jax.Array, images: jax.Array) -> jax.Array:
        return slope(lambda kernel, images: (loss(kernel, images), None), "data")(kernel, images)[1]

    mapped = jax.shard_map(
        fast_convolutions(gradient),
        mesh=parallel.mesh(),
        in_specs=(P(), P("data")),
        out_specs=P(),
        check_vma=check,
    )
    assert ("onednn" in jax.jit(mapped).lower(KERNEL, IMAGES).as_text()) == onednn.available()
    desired = jax.jit(jax.grad(loss))(KERNEL, IMAGES)
    error = np.abs(jax.jit(mapped)(KERNEL, IMAGES) - desired).max() / np.abs(desired).max()
    assert error < 5e-6
