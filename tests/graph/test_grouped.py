"""Grouped convolutions lose whole groups, or the same lanes of every group."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress.graph import trace
from jaxcompress.prune import gated, shrink
from tests.laws import close, gates_of, random_keep
from tests.toys.convolution import conv
from tests.toys.record import draw, rows

IMAGES = rows(2, 5, 5, 4)


def network(outputs: int, groups: int, first: bool = False) -> tuple[Any, Any]:
    """A grouped convolution after another one, or after the image itself."""
    inputs = 4 if first else 8
    shapes = {"grouped": (3, 3, inputs // groups, outputs), "out": (1, 1, outputs, 2)}
    shapes |= {} if first else {"stem": (1, 1, 4, 8)}

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        hidden = images if first else jax.nn.relu(conv(images, variables["stem"]))
        hidden = conv(hidden, variables["grouped"], feature_group_count=groups)
        return conv(jax.nn.relu(hidden), variables["out"])

    return apply, draw(1, shapes)


CASES = [
    ("whole", network(12, 4), {"grouped[3]": 4}),
    ("lanes", network(12, 4), {"grouped[3]": 3, "stem[3]": 2}),
    ("whole", network(4, 4), {"grouped[3]": 4}),
    ("lanes", network(4, 4), {"stem[3]": 2}),
    ("whole", network(6, 2, first=True), {"grouped[3]": 3}),
    ("lanes", network(6, 2, first=True), {"grouped[3]": 3}),
]


@pytest.mark.parametrize(("split", "made", "groups"), CASES)
def test_groups_or_lanes_go(split: str, made: tuple[Any, Any], groups: dict[str, int]) -> None:
    apply, variables = made
    graph = trace(apply, variables, IMAGES, split=split)
    assert {name: group.width for name, group in graph.groups.items()} == groups
    keep = random_keep(graph, seed=3)
    prune = shrink(graph, keep)
    small = prune.variables(variables)
    output = jax.jit(prune.function(apply))(small, IMAGES)
    close(output, gated(graph, apply)(variables, gates_of(graph, keep), IMAGES), 1e-5)
    assert float(jnp.abs(output - apply(variables, IMAGES)).max()) > 1e-3
    smaller = trace(prune.function(apply), small, IMAGES)
    assert smaller.flops == graph.cost.flops(graph.cost.widths(keep)) < graph.flops
    whole = shrink(graph, {name: np.ones(width, bool) for name, width in groups.items()})
    close(whole.function(apply)(variables, IMAGES), apply(variables, IMAGES), 1e-6)
