"""The adapted models, each made once."""

from __future__ import annotations

import importlib.util

import equinox as eqx
import jax
import pytest
from flax import nnx

from jaxcompress.adapters import (
    from_equinox,
    from_nnx,
)
from tests.adapters.networks import (
    Adapted,
    EquinoxNet,
    NnxNet,
    adapted,
)

# A helper that skips is imported by those who need it, not as a file with examples.
collect_ignore = (
    [] if importlib.util.find_spec("torch") else ["needs_torch.py", "torch_networks.py"]
)


@pytest.fixture(scope="module")
def nnx_net() -> Adapted:
    return adapted(from_nnx, NnxNet(nnx.Rngs(0)))


@pytest.fixture(scope="module")
def equinox_net() -> Adapted:
    pair = eqx.nn.make_with_state(EquinoxNet)(jax.random.key(0))
    return adapted(from_equinox, pair)


@pytest.fixture(params=["nnx_net", "equinox_net"])
def net(request: pytest.FixtureRequest) -> Adapted:
    return request.getfixturevalue(request.param)
