"""Two kernels with biases, which tests of `absorb` share."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import numpy as np

from jaxcompress.annotations import Array, Function, PyTree
from tests.toys.record import draw, rows

IMAGES, ROWS = rows(4, 6, 6, 3), rows(16, 3)
GOES = np.arange(8) < 3
Case = tuple[Function, Any, Array]


def dense(variables: PyTree, x: Array) -> Array:
    return nn.relu(x @ variables["a"] + variables["c"]) @ variables["b"] + variables["d"]


def dense_case(apply: Function = dense, **more: tuple[int, ...]) -> Case:
    return apply, draw(3, {"a": (3, 8), "c": (8,), "b": (8, 4), "d": (4,), **more}), ROWS
