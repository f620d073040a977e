"""A model of each kind goes through the whole flow: statistics, steps, the front door."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcompress as jc
from jaxcompress.adapters import (
    equinox_statistics,
    equinox_trainable,
    nnx_trainable,
)
from jaxcompress.graph import trace
from jaxcompress.paths import flatten_with_paths
from jaxcompress.training import init_state, reestimate, replace_leaves, train_step
from tests.adapters.networks import (
    IMAGES,
    Adapted,
    assert_close,
    changed,
)


def test_statistics_are_those_of_the_batches(net: Adapted) -> None:
    """One function of both kinds of model goes through re-estimation, also after a removal."""
    statistics = equinox_statistics(net.model) if isinstance(net.model, tuple) else None
    batches = jnp.stack([IMAGES, 2 * IMAGES + 1])
    small = net.prune.variables(net.variables)
    train = net.prune.function(net.train)
    key = jax.random.key(5)
    stepped = replace_leaves(small, train(small, IMAGES, key)[1])
    for start in (small, stepped):
        new = reestimate(train, start, batches, key=key, statistics=statistics)
        output = net.prune.function(net.apply)(new, IMAGES)
        again = reestimate(train, new, batches, key=key, statistics=statistics)
        assert_close(net.prune.function(net.apply)(again, IMAGES), output)
        mean, var = _normalised_by(net, new)
        hidden = _before_norm(net, new, batches)
        np.testing.assert_allclose(mean, hidden.mean((0, 1, 2, 3)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(var, hidden.var((0, 1, 2, 3)), rtol=1e-4, atol=1e-5)


def _normalised_by(net: Adapted, variables: Any) -> tuple[jax.Array, jax.Array]:
    """Return the mean and variance that evaluation normalises by."""
    leaves, _ = flatten_with_paths(variables)
    if not isinstance(net.model, tuple):
        return leaves["norm/mean"], leaves["norm/var"]
    count = leaves["1/0"]
    weight = jnp.where(count == 0, 1.0, 1 - net.model[0].norm.momentum ** count)
    return leaves["1/1/0"] / weight, leaves["1/1/1"] / weight


def _before_norm(net: Adapted, variables: Any, batches: jax.Array) -> jax.Array:
    """Return what the stem makes of all images, channels last."""
    leaves, _ = flatten_with_paths(variables)
    if isinstance(net.model, tuple):
        kernel = jnp.transpose(leaves["0/stem/weight"], (2, 3, 1, 0))
        bias, padding = leaves["0/stem/bias"].reshape(-1), "VALID"
    else:
        kernel, bias, padding = leaves["stem/kernel"], leaves["stem/bias"], "SAME"
    made = [
        jax.lax.conv_general_dilated(
            images, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        for images in batches
    ]
    return jnp.stack(made) + bias


def test_parameters_are_told_from_state_without_being_told(net: Adapted) -> None:
    trainable = (equinox_trainable if isinstance(net.model, tuple) else nnx_trainable)(net.model)
    told = trace(net.apply, net.variables, IMAGES, trainable=trainable)
    assert net.graph.params == told.params
    shapes = jax.eval_shape(lambda: net.variables)
    assert trace(net.apply, shapes, IMAGES).params == told.params


def test_the_whole_flow_with_a_model_of_each_kind(net: Adapted) -> None:
    """Prune by the front door, re-estimate, take a training step, evaluate."""
    statistics = equinox_statistics(net.model) if isinstance(net.model, tuple) else None
    batches = [{"image": IMAGES}, {"image": 2 * IMAGES}]
    prune = jc.recipes.prune(
        net.apply,
        net.variables,
        batches,
        jc.Budget(flops=0.6),
        key=jax.random.key(0),
        train_apply=net.train,
        groups="all",
        examples=8,
    )
    small, apply = prune.variables(net.variables), prune.function(net.apply)
    train = prune.function(net.train)
    small = reestimate(
        train, small, jnp.stack([IMAGES, 2 * IMAGES]), key=jax.random.key(1), statistics=statistics
    )

    def loss(variables: Any, batch: Any, key: jax.Array) -> Any:
        outputs, state = train(variables, batch["image"], key)
        return jnp.square(outputs).mean(), (state, {})

    tx = optax.sgd(0.1)
    step = jax.jit(train_step(loss, tx))
    state = init_state(small, tx)
    new, metrics = step(state, batches[0], jax.random.key(2))
    assert np.isfinite(metrics["loss"])
    moved = changed(new.variables, small)
    assert any(path.endswith(("weight", "kernel")) for path in moved)
    assert np.isfinite(apply(new.variables, IMAGES)).all()
