"""What repeated calls with new functions leave behind.

    python -m benchmarks.leaks --calls 200

Each public function that takes a caller's function is called again and again with a new one, a
closure, as a notebook or a search does. Counted are the functions still alive afterwards and the
memory maps of the process, of which the system allows 65,530. Writes
`benchmarks/results/leaks.json`.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcompress as jc
from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from experiments.common.timing import Stopwatch
from jaxcompress.annotations import Function, Json, PyTree

__all__ = ["COMMAND", "CALLS", "Config", "alive_after", "main"]

Seen = Callable[[Any], Any]
SHAPES = {"a": (3, 4), "b": (4, 2)}
VARIABLES = {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}
ROWS, LABELS = np.eye(3, dtype=np.float32), np.arange(3) % 2
BUDGET = jc.Budget(flops=0.5)


def one_device() -> Any:
    """Return the mesh of one device."""
    return jc.parallel.mesh(jax.local_devices()[:1])


def network(seen: Seen) -> Function:
    """Make a new function, seen by the caller."""

    def apply(variables: PyTree, rows: Json) -> Any:
        return jnp.tanh(rows @ variables["a"]) @ variables["b"]

    return seen(apply)


def loss_of(seen: Seen) -> Function:
    """Make a new loss."""
    apply = network(seen)
    return seen(lambda variables, rows: (apply(variables, rows) ** 2).mean())


def graph_of(seen: Seen) -> jc.Graph:
    """Trace a new function."""
    return jc.trace(network(seen), VARIABLES, ROWS)


def rounds(*leading: int) -> Any:
    """Return batches with leading axes."""
    return np.broadcast_to(ROWS, (*leading, *ROWS.shape))


def call_gated(seen: Seen) -> None:
    """Gates and shrinking."""
    graph, apply = graph_of(seen), network(seen)
    jax.jit(jc.gated(graph, apply))(VARIABLES, jc.prune.ones(graph), ROWS)
    prune = jc.shrink(graph, {"a[1]": np.arange(4) < 2})
    jax.jit(prune.function(apply))(prune.variables(VARIABLES), ROWS)


def call_low_rank(seen: Seen) -> None:
    """Factors that know the data."""
    graph, apply = graph_of(seen), network(seen)
    roots = jc.low_rank.input_roots(graph, apply, VARIABLES, rounds(1), {"a": "dense"})
    key = jax.random.key(0)
    jc.low_rank.output_covariances(graph, apply, VARIABLES, rounds(1), {"a": "dense"}, key=key)
    low = jc.factorize(graph, {"a": 1}, roots=roots)
    jax.jit(low.function(apply))(low.variables(VARIABLES), ROWS)


def call_taylor(seen: Seen) -> None:
    """First-order importance."""
    jc.importance.taylor(graph_of(seen), loss_of(seen), VARIABLES, rounds(2))


def call_fisher(seen: Seen) -> None:
    """Masked Fisher."""
    key = jax.random.key(0)
    jc.importance.fisher(graph_of(seen), loss_of(seen), VARIABLES, rounds(1), key=key)


def call_meta(seen: Seen) -> None:
    """Meta-gradients of second order."""
    jc.importance.meta(graph_of(seen), loss_of(seen), VARIABLES, rounds(1, 1), rounds(1))


def call_learn_gates(seen: Seen) -> None:
    """Learned gates, with an inner step."""
    start = {"a[1]": np.arange(1.0, 5.0, dtype=np.float32)}
    arguments = (VARIABLES, start, BUDGET, rounds(2), rounds(2, 1))
    jc.prune.learn_gates(graph_of(seen), loss_of(seen), *arguments)


def call_candidates(seen: Seen) -> None:
    """Candidates at once."""
    gates = {"a[1]": np.tril(np.ones((4, 4), np.float32))}
    jc.prune.candidate_losses(graph_of(seen), loss_of(seen), VARIABLES, gates, ROWS)


def call_step(seen: Seen) -> None:
    """One training step."""
    apply, tx = network(seen), optax.sgd(0.1)
    loss = seen(lambda variables, batch, key: (apply(variables, batch).sum(), ({}, {})))
    step = jc.training.jit_step(jc.training.train_step(loss, tx), one_device())
    step(jc.training.init_state(VARIABLES, tx), ROWS, jax.random.key(0))


def call_evaluate(seen: Seen) -> None:
    """Evaluation, twice."""
    apply, preprocess = network(seen), seen(lambda rows: rows + 1)
    for _ in range(2):
        jc.training.evaluate(
            apply, VARIABLES, ROWS, LABELS, batch_size=3, mesh=one_device(), preprocess=preprocess
        )


def call_reestimate(seen: Seen) -> None:
    """New BatchNorm statistics."""

    def train_apply(variables: PyTree, rows: Json, key: Any) -> Any:
        return rows, {"mean": 0.9 * variables["mean"] + 0.1 * rows.mean(0)}

    start = {"mean": jnp.ones(3)}
    jc.training.reestimate(seen(train_apply), start, rounds(1), key=jax.random.key(0))


def call_fast(seen: Seen) -> None:
    """A function rewritten for the CPU."""
    jax.jit(jc.backend.fast_convolutions(network(seen)))(VARIABLES, ROWS)


CALLS = (
    call_gated,
    call_low_rank,
    call_taylor,
    call_fisher,
    call_meta,
    call_learn_gates,
    call_candidates,
    call_step,
    call_evaluate,
    call_reestimate,
    call_fast,
)


def alive_after(call: Callable[[Seen], None], calls: int) -> tuple[int, int]:
    """Return how many functions were made by repeated calls, and how many are still alive."""
    functions: list[weakref.ref[Any]] = []

    def seen(function: Function) -> Any:
        functions.append(weakref.ref(function))
        return function

    for _ in range(calls):
        call(seen)
    gc.collect()
    return len(functions), sum(reference() is not None for reference in functions)


@dataclasses.dataclass(frozen=True)
class Config:
    """How often.

    Attributes:
        calls: of every function.
        output: the JSON file.
    """

    calls: int = 200
    output: Path = Path("benchmarks/results/leaks.json")


def memory_maps() -> int:
    """Return how many memory maps the process has."""
    return len(Path("/proc/self/maps").read_text().splitlines())


def main(config: Config) -> None:
    """Call everything, print a line each, write the file."""
    prepare()
    rows = []
    for call in CALLS:
        # What is compiled or loaded once is no leak.
        alive_after(call, 5)
        maps, watch = memory_maps(), Stopwatch()
        made, alive = alive_after(call, config.calls)
        seconds = watch.seconds
        row = {"call": call.__name__, "calls": config.calls, "functions": made, "alive": alive}
        rows.append({**row, "more_memory_maps": memory_maps() - maps, "seconds": seconds})
        print(rows[-1], flush=True)
    text = json.dumps({"environment": describe(), "rows": rows}, indent=1)
    config.output.write_text(text + "\n")


COMMAND = Command("benchmarks.leaks", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
