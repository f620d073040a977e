"""Budgets: numbers up to 1 are fractions, larger ones absolute, and the integer 1 is neither."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcompress import Budget, select, trace
from jaxcompress.low_rank import ranks

VARIABLES = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
GRAPH = trace(lambda v, x: jnp.tanh(x @ v["a"]) @ v["b"], VARIABLES, jnp.ones((1, 3)))


@pytest.mark.parametrize("one", [1, np.int32(1), np.array(1)])
@pytest.mark.parametrize("kind", ["flops", "params", "bytes"])
def test_the_integer_one_is_refused(one: Any, kind: str) -> None:
    with pytest.raises(ValueError, match=f"but {kind}=.*1.* is both; write 1.0 for everything"):
        Budget(**{kind: one})


@pytest.mark.parametrize("whole", [1.0, np.float32(1.0)])
def test_the_number_one_is_everything(whole: Any) -> None:
    assert Budget(flops=whole).of(GRAPH) == Budget(flops=GRAPH.flops)
    assert select(GRAPH, {"a[1]": np.arange(4.0)}, Budget(flops=whole))["a[1]"].all()


@pytest.mark.parametrize("given", [10, 10.0])
def test_numbers_above_one_are_absolute_in_every_method(given: Any) -> None:
    assert Budget(params=given).of(GRAPH) == Budget(params=10.0)
    assert select(GRAPH, {"a[1]": np.arange(4.0)}, Budget(params=given))["a[1]"].sum() == 2
    ceilings = ranks.sites_of(GRAPH, VARIABLES).ceilings(Budget(params=given))
    assert ceilings == {"params": 10.0}


def test_a_fraction_that_leaves_no_more_than_one_is_refused() -> None:
    """Made absolute, it would be taken for a fraction again."""
    with pytest.raises(ValueError, match="by params=0.05 of 20; ask for a larger part"):
        Budget(params=0.05).of(GRAPH)
