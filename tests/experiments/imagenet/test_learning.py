"""A batch in parts is the same update, of the same rate."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common.accumulating import accumulated
from experiments.imagenet import learning
from experiments.imagenet.settings import Config
from jaxcompress import parallel, training
from jaxcompress.knowledge import cross_entropy

ROWS = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)


def loss(variables: Any, batch: Any, key: jax.Array) -> Any:
    logits = batch["image"] @ variables["params"]["kernel"]
    value = cross_entropy(logits, batch["label"])
    return value.mean(), ({}, {"correct": (logits.argmax(-1) == batch["label"]).mean()})


@pytest.mark.parametrize("devices", [1, 8])
def test_a_batch_in_parts_is_one_update(devices: int) -> None:
    mesh, config = parallel.mesh(jax.devices()[:devices]), Config(rate=0.1, batch_size=16)
    batch = {"image": ROWS, "label": np.arange(16, dtype=np.int32) % 3}
    ends = []
    for parts in (1, 2):
        tx = accumulated(learning.optimizer(config, 40), parts)
        step = learning._update(training.jit_step(training.train_step(loss, tx), mesh), parts, mesh)
        state = training.init_state({"params": {"kernel": jnp.zeros((5, 3))}}, tx)
        for number in range(5):
            state, metrics = step(state, batch, jax.random.key(number))
        ends.append((state.variables, metrics))
        assert int(state.step) == 5 * parts
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *ends)
    assert np.abs(ends[0][0]["params"]["kernel"]).max() > 1e-3
