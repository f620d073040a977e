"""Project the device-hours of a compression from a few measured steps on random images."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

import jaxcompress as jc
from experiments.common import report, score
from experiments.common.distill import Teaching, featured_training, teaching_loss, trainable
from experiments.common.projection import CLASSES, Pace, Work, stage_hours
from jaxcompress import knowledge, models, parallel, training
from jaxcompress.annotations import Batch, Json, PyTree
from jaxcompress.prune import importance

__all__ = ["project"]

SCORE_IMAGES = score.ROUNDS * score.IMAGES + score.LEARN_STEPS * score.LEARN_IMAGES
"""Masked Fisher and learned gates see so many images."""


def project(config: Json, console: Console) -> list[report.Row]:
    """Measure the teacher's forward pass and a fine-tuning step; scale them to ImageNet.

    The student is the network pruned by magnitude to the same FLOPs: which channels go hardly
    changes how long a step takes.
    """
    mesh, size = parallel.mesh(), config.project
    batch = config.batch_size // config.accumulate_steps
    module = models.build(config.network, num_classes=CLASSES, **config.network_config)
    variables = models.initialize(module, jax.random.key(0), (1, size, size, 3))
    apply = models.evaluation_function(module)
    graph = jc.trace(apply, variables, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
    # As they are: the published projections were chosen so.
    scores = dict(importance.magnitude(graph, variables))
    keep = jc.select(graph, scores, jc.Budget(flops=config.flops))
    prune = jc.shrink(graph, keep)
    batch_data = random_batch(dataclasses.replace(config, batch_size=batch), mesh)

    run = jax.jit(apply)
    replicated = parallel.replicate(variables, mesh)
    forward = 1e3 * batch / report.latency_ms(run, replicated, batch_data["image"], repeats=5)
    step = batch / seconds_of_step(module, config, prune, variables, batch_data, mesh)
    work = Work(config.stored_views, SCORE_IMAGES, config.student_epochs)
    hours = stage_hours(work, Pace(forward, step))
    for name, value in hours.items():
        console.print(f"{name}: {value * mesh.size:,.1f} device-hours, projected")
    console.print(
        f"{forward:,.0f} images/s forward, {step:,.0f} images/s fine-tuning on {mesh.size} devices;"
        f" reading and augmenting images not counted; all: {sum(hours.values()) * mesh.size:,.1f}"
    )
    extra = {f"{name}_device_hours": value * mesh.size for name, value in hours.items()}
    extra |= {"forward_images_per_second": forward, "step_images_per_second": step}
    small = jc.trace(prune.function(apply), prune.variables(variables), batch_data["image"][:1])
    row = report.Row("projected", num_params=small.params, flops=small.flops, extra=extra)
    settings = {**dataclasses.asdict(config), "projected": True}
    report.write_report(config.workdir, "limited_resources", settings, [row])
    return [row]


def random_batch(config: Json, mesh: Any) -> dict[str, jax.Array]:
    """Return what the loss of the crossed assistant takes, without meaning."""
    generator, batch, size = np.random.default_rng(0), config.batch_size, config.project
    stored = (batch, config.stored_views)
    values = {
        "image": generator.normal(size=(batch, size, size, 3)).astype(np.float32),
        "label": generator.integers(0, CLASSES, batch).astype(np.int32),
        "view": np.arange(batch, dtype=np.int32) % (2 * config.stored_views),
        "logits": generator.normal(size=(*stored, CLASSES)).astype(np.float16),
        "features": generator.normal(size=(*stored, 2048)).astype(np.float16),
    }
    return parallel.shard_batch(values, mesh)


def seconds_of_step(
    module: Any, config: Json, prune: jc.Compression, variables: PyTree, batch: Batch, mesh: Any
) -> float:
    """Time one fine-tuning step with the crossed assistant."""
    train = prune.function(featured_training(module, config.features))
    small, key = prune.variables(variables), jax.random.key(0)
    view = jax.eval_shape(train, small, batch["image"], key)[0][1].pooled.shape[1]
    sizes = {"knowledge": batch["features"].shape[-1], "view": view}
    assistant = knowledge.init_assistant(key, classes=CLASSES, **sizes)
    tx = optax.sgd(0.01, momentum=0.9)
    loss = teaching_loss(train, Teaching("crossed"))
    both = {"student": small, "assistant": assistant}
    state = parallel.replicate(training.init_state(both, tx, trainable=trainable), mesh)
    step = training.jit_step(training.train_step(loss, tx, trainable=trainable), mesh)
    states = [state]

    def one() -> Any:
        states[0], metrics = step(states[0], batch, key)
        return metrics

    return report.latency_ms(one, repeats=5) / 1e3
