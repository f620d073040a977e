"""A network whose carry shrinks with it: saved, loaded, and refused where its spec is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.artifact import load, save
from jaxcompress.artifact.structure import _digest
from jaxcompress.compression import Compression
from jaxcompress.graph import trace
from jaxcompress.prune import shrink, shrink_inputs
from tests.laws import same
from tests.toys.record import draw, rows

CARRY, INPUTS = rows(4, 8, seed=1), rows(4, 3)
VARIABLES = draw(0, {"a": (3, 8), "u": (8, 8), "b": (8, 2)})


def step(variables: Any, carry: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    carry = jnp.tanh(inputs @ variables["a"] + carry @ variables["u"])
    return carry @ variables["b"], carry


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Compression]:
    graph = trace(step, VARIABLES, CARRY, INPUTS, state=lambda result: {0: result[1]})
    prune = shrink(graph, {"a[1]": np.arange(8) < 5})
    save(tmp_path / "cell", prune, prune.variables(VARIABLES))
    return tmp_path / "cell", prune


def test_a_carry_shrinks_after_loading(saved: tuple[Path, Compression]) -> None:
    folder, prune = saved
    small = shrink_inputs(prune, CARRY, INPUTS)
    function, variables = load(folder, step)
    output, carry = function(variables, *small)
    assert carry.shape == (4, 5)
    same((output, carry), prune.function(step)(prune.variables(VARIABLES), *small))


@pytest.mark.parametrize(
    "wrong",
    [
        5,
        {"0": 5},
        {"0": {"shape": [4, 8]}},
        {"0": {"shape": [4, 8], "keep": {"1": [7, 8]}}},
        {"0": {"shape": [4, 8], "keep": {"2": [0]}}},
        {"0": {"shape": [4, 8], "keep": {"1": [0, True]}}},
    ],
)
def test_a_damaged_carry_is_refused_by_name(saved: tuple[Path, Compression], wrong: Any) -> None:
    file = saved[0] / "structure.json"
    content = json.loads(file.read_text())
    content["spec"]["inputs"] = wrong
    content.pop("sha256")
    file.write_text(json.dumps({**content, "sha256": _digest(content)}))
    with pytest.raises(ValueError, match="input"):
        load(saved[0], step)
