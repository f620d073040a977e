"""What a meta-gradient costs in memory, beside a training step.

    python -m benchmarks.meta_memory --steps 0 1 3

Compiles, for one ResNet and batch size, a plain training step (loss and gradients of all
variables) and episodes of K inner steps, first and second order, and asks XLA how much temporary
memory each takes (`compiled.memory_analysis()`); nothing is run. Also with the checkpoint policies
of `POLICIES` around the loss. Writes `benchmarks/results/meta_memory.json`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

import jaxcompress as jc
from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from jaxcompress import models
from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.prune.importance import adapt

__all__ = ["COMMAND", "Config", "main"]


def convolutions(primitive: Any, *_: Any, **__: Any) -> bool:
    """Save what convolutions return, and nothing else."""
    return bool(primitive.name == "conv_general_dilated")


Policy = Literal["none", "nothing_saveable", "convolutions"]
POLICIES: dict[Policy, Callable[..., bool] | None] = {
    "none": None,
    "nothing_saveable": jax.checkpoint_policies.nothing_saveable,
    "convolutions": convolutions,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compiled.

    Attributes:
        network: its name.
        batch_size: images of every batch.
        steps: K.
        policies: names of `POLICIES`, for second order.
        output: the JSON file.
    """

    network: str = "resnet20"
    batch_size: int = 64
    steps: tuple[int, ...] = (0, 1, 3, 5)
    policies: tuple[Policy, ...] = ("none",)
    output: Path = Path("benchmarks/results/meta_memory.json")


def main(config: Config) -> None:
    """Compile all programs and write what they take."""
    prepare()
    graph, variables, loss = _network(config.network)
    gated, gates = jc.gated(graph, loss), jc.prune.ones(graph)
    plain = _temporary(jax.value_and_grad(loss), variables, _batch(config))
    rows: list[dict[str, Any]] = []
    for policy in config.policies:
        for order in (2, 1) if policy == "none" else (2,):
            for steps in config.steps:
                episode = _episode(_with_policy(gated, policy), order)
                shapes = gates, variables, _batch(config, steps), _batch(config)
                size = _temporary(jax.grad(episode), *shapes)
                row: dict[str, Any] = {
                    "order": order,
                    "steps": steps,
                    "policy": policy,
                    "bytes": size,
                }
                row["times_plain"] = round(size / plain, 3)
                row["times_plain_per_step"] = round(size / plain / max(steps, 1), 3)
                rows.append(row)
                print(row, flush=True)
    settings = dataclasses.asdict(config) | {"output": str(config.output)}
    content: dict[str, Any] = {"environment": describe(), "config": settings}
    content |= {"plain_step_bytes": plain, "rows": rows}
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps(content, indent=1) + "\n")


def _with_policy(loss: Function, policy: Policy) -> Function:
    chosen = POLICIES[policy]
    return loss if chosen is None else jax.checkpoint(loss, policy=chosen)


def _episode(loss: Function, order: int) -> Callable[..., jax.Array]:
    def episode(gates: PyTree, variables: PyTree, support: Batch, query: Batch) -> jax.Array:
        adapted, _ = adapt(loss, variables, gates, support, optax.sgd(0.01), order=order)
        return loss(adapted, gates, query)

    return episode


def _temporary(function: Function, *shapes: Any) -> int:
    analysis = jax.jit(function).lower(*shapes).compile().memory_analysis()
    if analysis is None:
        raise RuntimeError(f"{jax.default_backend()} does not tell how much memory a program takes")
    return int(analysis.temp_size_in_bytes)


def _batch(config: Config, *leading: int) -> dict[str, jax.ShapeDtypeStruct]:
    axes = (*leading, config.batch_size)
    return {
        "image": jax.ShapeDtypeStruct((*axes, 32, 32, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct(axes, jnp.int32),
    }


def _network(name: str) -> tuple[jc.Graph, Any, Callable[[PyTree, Batch], jax.Array]]:
    module, shape = models.build(name), (1, 32, 32, 3)
    variables = models.initialize(module, jax.random.key(0), shape)
    graph = jc.trace(models.evaluation_function(module), variables, jnp.zeros(shape))
    train = models.training_function(module)

    def loss(params: Array, batch: Batch) -> jax.Array:
        logits, _ = train(params, batch["image"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    return graph, variables, loss


COMMAND = Command("benchmarks.meta_memory", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
