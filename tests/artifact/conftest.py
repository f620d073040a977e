"""Shrunk networks, an artifact of one, and artifacts stored in every way."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxcompress.artifact import save
from jaxcompress.models import build, evaluation_function, initialize
from tests.artifact.forged import Leaves, stored_in_every_way
from tests.artifact.small import CONFIG, Small, half, mlp


@pytest.fixture(scope="session")
def images() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (2, 8, 8, 3))


@pytest.fixture(scope="session")
def resnet(images: jax.Array) -> Small:
    module = build("resnet20", **CONFIG)
    variables = initialize(module, jax.random.key(0), images.shape)
    return half(evaluation_function(module), variables, images)


@pytest.fixture(scope="session")
def plain() -> Small:
    keys = jax.random.split(jax.random.key(2))
    variables = {
        "a": {"kernel": jax.random.normal(keys[0], (3, 6))},
        "b": {"kernel": jax.random.normal(keys[1], (6, 2))},
    }
    return half(mlp, variables, jnp.ones((2, 3)))


@pytest.fixture
def folder(tmp_path: Path, plain: Small) -> Path:
    """An artifact of the plain function."""
    save(tmp_path / "artifact", plain.prune, plain.small)
    return tmp_path / "artifact"


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Leaves]:
    """Return the leaves of every stored artifact, by its folder."""
    return stored_in_every_way(tmp_path_factory.mktemp("artifacts"))
