"""Repeated calls with new functions leave none alive; repeated calls with one compile once."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import leaks
from jaxcompress import parallel
from jaxcompress.compiled import jit_of
from jaxcompress.graph import trace
from jaxcompress.prune.importance import meta
from jaxcompress.training import evaluate

KEY, MESH = jax.random.key(0), parallel.mesh(jax.devices()[:1])
IMAGES, LABELS = np.eye(3, dtype=np.float32), np.arange(3)
BATCH = {"image": IMAGES, "label": LABELS, "mask": np.ones(3, bool)}
VARIABLES = {"mean": jnp.ones(3), "w": jnp.ones(3)}
TX = optax.sgd(0.1)
KERNELS = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
GRAPH = trace(lambda v, x: jnp.tanh(x @ v["a"]) @ v["b"], KERNELS, jnp.ones((2, 3)))


@pytest.mark.parametrize("call", leaks.CALLS)
def test_repeated_calls_leave_no_function_alive(call: Callable[..., None]) -> None:
    functions, alive = leaks.alive_after(call, 4)
    assert functions >= 4
    assert alive == 0


def test_a_function_that_stays_alive_is_found() -> None:
    kept: list[Any] = []
    assert leaks.alive_after(lambda seen: kept.append(leaks.network(seen)), 3) == (3, 3)


class Scale:
    """A model whose method is a new object each time that it is named."""

    def __init__(self) -> None:
        self.traces = 0

    def apply(self, variables: Any, images: jax.Array) -> jax.Array:
        self.traces += 1
        return images * variables["w"]


class Record(NamedTuple):
    """A callable that cannot be referred to weakly."""

    traces: list[int]
    name: str = "record"

    def __call__(self, variables: Any, images: jax.Array) -> jax.Array:
        self.traces.append(1)
        return images * variables["w"]

    def __hash__(self) -> int:
        return hash(self.name)


def test_methods_and_records_compile_once() -> None:
    traces: list[int] = []
    scale = Scale()
    record: Any = Record(traces)
    for _ in range(3):
        evaluate(scale.apply, VARIABLES, IMAGES, LABELS, batch_size=3, mesh=MESH)
        evaluate(record, VARIABLES, IMAGES, LABELS, batch_size=3, mesh=MESH)
    assert scale.traces == len(traces) == 1
    gone = weakref.ref(scale)
    del scale
    gc.collect()
    assert gone() is None


def added(function: Callable[[Any], Any], other: Any = None, *, more: int) -> Callable[..., Any]:
    return lambda x: function(x) + (other(x) if other else 0) + more


def test_programs_of_other_functions_and_options_are_others() -> None:
    def double(x: Any) -> Any:
        return 2 * x

    def triple(x: Any) -> Any:
        return 3 * x

    results = [int(jit_of(added, f, more=more)(1)) for f in (double, triple) for more in (0, 5)]
    assert results == [2, 7, 3, 8]
    assert int(jit_of(added, double, triple, more=0)(1)) == 5
    assert int(jit_of(added, triple, triple, more=0)(1)) == 6


def test_new_optimizers_and_one_loss_leave_no_program() -> None:
    graph, loss = leaks.graph_of(lambda x: x), leaks.loss_of(lambda x: x)
    given = (leaks.VARIABLES, leaks.rounds(1, 1), leaks.rounds(1))
    updates = []
    for _ in range(3):
        optimizer = optax.sgd(0.1, momentum=0.9)
        updates.append(weakref.ref(optimizer.update))
        meta(graph, loss, *given, optimizer=optimizer)
    del optimizer
    gc.collect()
    assert all(update() is None for update in updates)
