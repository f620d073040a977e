"""Programs of split batches gather nothing: no device holds what the others have."""

from __future__ import annotations

import jax
import pytest

from benchmarks.tpu_aot.networks import Network, image_network
from benchmarks.tpu_aot.run import compiled
from benchmarks.tpu_aot.steps import STEPS


@pytest.fixture(scope="module")
def network() -> Network:
    return image_network("resnet8", 32, 10, 16, None)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("step", ["fisher", "learned gates", "candidates"])
def test_batches_that_are_split_stay_so(network: Network, step: str) -> None:
    text = compiled(STEPS[step](network), jax.devices()).as_text()
    assert "all-gather" not in text
    assert "all-reduce" in text
