"""Our side of `benchmarks.throughput`.

Variants: `jit` is the network as it is; `fast` with `fast_convolutions` (on CPUs); `bfloat16` with
computation in that type, and `bfloat16 fast`. A training step is SGD with momentum and weight
decay, its state donated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.throughput.cases import Case, export, network
from benchmarks.throughput.worker import Side
from experiments.common.teaching import distillation
from jaxcompress import training
from jaxcompress.annotations import Batch, Function, Json, PyTree
from jaxcompress.backend import fast_convolutions
from jaxcompress.knowledge import cross_entropy

__all__ = ["Prepared", "prepare", "start"]

TEMPERATURE, WEIGHT = 4.0, 0.5


class Prepared(NamedTuple):
    """See `benchmarks.throughput.worker.Prepared`."""

    logits_error: float
    variants: Mapping[str, Callable[[], None] | str]


def start(threads: int, device: str) -> Side:
    """Return what prepares a case; the environment says which device JAX takes."""
    del threads, device
    return prepare


def prepare(case: dict[str, Json], kinds: Mapping[str, bool], folder: Path) -> Prepared:
    """Write the case's files and make its variants; of the kinds only bfloat16 is known here."""
    parsed = Case(**case)
    roles = export(parsed, folder)
    by_type = {"": roles}
    if kinds["bfloat16"]:
        by_type["bfloat16 "] = {
            role: network(parsed.name, role == "student" and parsed.half, jnp.bfloat16)
            for role in roles
        }
    variants: dict[str, Callable[[], None] | str] = {}
    for prefix, networks in by_type.items():
        plain = _function(parsed.task, networks)
        variants[prefix.strip() or "jit"] = _call(parsed.task, plain, networks, folder)
        variants[f"{prefix}fast"] = _fast(parsed.task, plain, networks, folder)
    return Prepared(_fast_error(roles["student"], folder), variants)


def _fast(task: str, plain: Any, networks: Any, folder: Path) -> Callable[[], None] | str:
    if jax.default_backend() != "cpu":
        return "changes nothing here: it is for CPUs"
    return _call(task, fast_convolutions(plain), networks, folder)


def _fast_error(student: Any, folder: Path) -> float:
    """How far the logits with fast convolutions are off, relative to the largest."""
    wanted = np.load(folder / "student_logits.npy")
    with jax.default_matmul_precision("highest"):
        logits = jax.jit(fast_convolutions(student.apply))(
            student.variables, np.load(folder / "images.npy")
        )
    return float(np.abs(np.asarray(logits) - wanted).max() / np.abs(wanted).max())


def _function(task: str, networks: Any) -> Function:
    """Return `evaluation(variables, batch)` or `step(state, batch, key)`."""
    student, teacher = networks["student"], networks.get("teacher")
    if task == "eval":
        return lambda variables, batch: student.apply(variables, batch["image"])

    def loss(variables: PyTree, batch: Batch, key: jax.Array) -> Any:
        logits, state = student.train(variables, batch["image"], key)
        if task == "live":
            batch = {**batch, "logits": teacher.apply(batch["teacher"], batch["image"])}
        if task in ("stored", "live"):
            batch = {**batch, "logits": jax.lax.stop_gradient(batch["logits"])}
            value = distillation(logits, batch, WEIGHT, TEMPERATURE)
        else:
            value = cross_entropy(logits, batch["label"])
        return value.mean(), (state, {})

    return training.train_step(loss, _optimizer())


def _optimizer() -> Any:
    return optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(1e-3, momentum=0.9))


def _call(task: str, function: Function, networks: Any, folder: Path) -> Callable[[], None]:
    """Return a call that runs one step and waits for it."""
    batch = {"image": np.load(folder / "images.npy"), "label": np.load(folder / "labels.npy")}
    if task == "stored":
        batch["logits"] = np.load(folder / "teacher_logits.npy")
    batch = jax.device_put(batch)
    if task == "live":
        batch["teacher"] = networks["teacher"].variables
    variables = networks["student"].variables
    if task == "eval":
        return _evaluation(jax.jit(function), variables, batch)
    step, key = jax.jit(function, donate_argnums=0), jax.random.key(0)
    # The step donates its state, so it gets its own copy.
    states = [jax.tree.map(jnp.copy, training.init_state(variables, _optimizer()))]

    def call() -> None:
        states[0], metrics = step(states[0], batch, key)
        jax.block_until_ready((states[0], metrics))

    return call


def _evaluation(evaluate: Any, variables: PyTree, batch: Batch) -> Callable[[], None]:
    def call() -> None:
        jax.block_until_ready(evaluate(variables, batch))

    return call
