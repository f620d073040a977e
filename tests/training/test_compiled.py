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

from jaxcompress import parallel
from jaxcompress.backend import fast_convolutions
from jaxcompress.compiled import jit_of
from jaxcompress.graph import trace
from jaxcompress.prune.importance import fisher
from jaxcompress.training import eval_step, evaluate, init_state, jit_step, reestimate, train_step

KEY, MESH = jax.random.key(0), parallel.mesh(jax.devices()[:1])
IMAGES, LABELS = np.eye(3, dtype=np.float32), np.arange(3)
BATCH = {"image": IMAGES, "label": LABELS, "mask": np.ones(3, bool)}
VARIABLES = {"mean": jnp.ones(3), "w": jnp.ones(3)}
TX = optax.sgd(0.1)
KERNELS = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
GRAPH = trace(lambda v, x: jnp.tanh(x @ v["a"]) @ v["b"], KERNELS, jnp.ones((2, 3)))


def call_evaluate(seen: Callable[[Any], None]) -> None:
    def apply(variables: Any, images: jax.Array) -> jax.Array:
        return images * variables["w"]

    def preprocess(images: jax.Array) -> jax.Array:
        return images + 1

    seen(apply)
    seen(preprocess)
    options = {"batch_size": 3, "mesh": MESH, "preprocess": preprocess}
    for _ in range(2):
        evaluate(apply, VARIABLES, IMAGES, LABELS, **options)


def call_reestimate(seen: Callable[[Any], None]) -> None:
    def train_apply(variables: Any, images: jax.Array, key: jax.Array) -> Any:
        return images, {"mean": 0.9 * variables["mean"] + 0.1 * images.mean(0)}

    seen(train_apply)
    reestimate(train_apply, VARIABLES, IMAGES[None], KEY)


def call_steps(seen: Callable[[Any], None]) -> None:
    def loss(variables: Any, batch: Any, key: jax.Array) -> Any:
        return jnp.sum(variables["w"] * batch["image"]), ({}, {})

    seen(loss)
    step = jit_step(train_step(loss, TX), MESH)
    step(init_state(VARIABLES, TX), BATCH, KEY)


def call_fast(seen: Callable[[Any], None]) -> None:
    def apply(variables: Any, images: jax.Array) -> jax.Array:
        return images * variables["w"]

    seen(apply)
    jax.jit(fast_convolutions(eval_step(apply)))(VARIABLES, BATCH)


def call_fisher(seen: Callable[[Any], None]) -> None:
    def loss(variables: Any, batch: jax.Array) -> jax.Array:
        return jnp.square(jnp.tanh(batch @ variables["a"]) @ variables["b"]).mean()

    seen(loss)
    fisher(GRAPH, loss, KERNELS, jnp.ones((1, 2, 3)), KEY)


CALLS = [call_evaluate, call_reestimate, call_steps, call_fast, call_fisher]


@pytest.mark.parametrize("call", CALLS)
def test_repeated_calls_leave_no_function_alive(call: Callable[..., None]) -> None:
    functions: list[weakref.ref[Any]] = []
    for _ in range(12):
        call(lambda function: functions.append(weakref.ref(function)))
    gc.collect()
    assert len(functions) >= 12
    assert sum(reference() is not None for reference in functions) == 0


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
    scale, record = Scale(), Record([])
    for _ in range(3):
        evaluate(scale.apply, VARIABLES, IMAGES, LABELS, batch_size=3, mesh=MESH)
        evaluate(record, VARIABLES, IMAGES, LABELS, batch_size=3, mesh=MESH)
    assert scale.traces == len(record.traces) == 1
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
