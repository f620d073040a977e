"""Lessons: for each way to teach, what is read from the store, which views are shown, which loss.

`experiments.distill` has the losses as functions of arrays; here they meet the store and the data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

import jaxcompress as jc
from experiments.distill import Method, Teaching, featured_training, teaching_loss
from experiments.interim import bank_logits
from experiments.limited_config import Config
from experiments.loop import ViewOf
from jaxcompress import knowledge
from jaxcompress.knowledge import store
from jaxcompress.models.resnet import BasicBlock
from jaxcompress.training import Loss

__all__ = ["Dense", "Kind", "Lesson", "kind_of", "knowledge_folder", "lesson"]

Kind = Literal["image", "views"]


class Dense(NamedTuple):
    """The teacher, and what is kept of it."""

    graph: jc.Graph
    keep: dict[str, np.ndarray]
    variables: Any


class Lesson(NamedTuple):
    """What training needs to teach a student.

    Attributes:
        loss: of ``{"student": ..., "assistant": ...}``.
        assistant: its first parameters; empty where there is none.
        extra: stored arrays, one row per training image.
        view_of: which views are shown; None for a new one each epoch.
    """

    loss: Loss
    assistant: Any
    extra: dict[str, np.ndarray]
    view_of: ViewOf | None


def kind_of(method: Method) -> Kind:
    """Say which knowledge a method reads: of the image itself, or of views of it."""
    return "views" if method in ("views", "crossed") else "image"


def lesson(config: Config, task: Any, dense: Dense, small: Any, key: jax.Array) -> Lesson:
    """Prepare one way to teach the pruned network."""
    method = config.method
    prune = jc.shrink(dense.graph, dense.keep)
    before = config.before_features if method == "tail" else None
    train = prune.function(featured_training(task.module, config.features, before))
    extra = _extra(config, task, dense)
    teaching = Teaching(
        method,
        temperature=config.temperature,
        live=lambda images: task.apply(dense.variables, images),
        tail=_tail(config, dense.variables) if method == "tail" else None,
    )
    assistant = {}
    if method in ("assistant", "crossed"):
        images = jnp.zeros((2, *task.dataset.test_images.shape[1:]))
        _, features = jax.eval_shape(train, small, images, key)[0]
        sizes = {"knowledge": extra["features"].shape[-1], "view": features.pooled.shape[-1]}
        assistant = knowledge.init_assistant(key, classes=task.dataset.num_classes, **sizes)
    return Lesson(teaching_loss(train, teaching), assistant, extra, _view_of(config))


NAMES = {
    "none": (),
    "live": (),
    "logits": ("logits",),
    "blend": ("logits",),
    "views": ("logits",),
    "assistant": ("logits", "features"),
    "crossed": ("logits", "features"),
    "tail": ("mean", "deviation"),
}


def _extra(config: Config, task: Any, dense: Dense) -> dict[str, np.ndarray]:
    """Read what the method needs: `[examples, ...]`, or `[examples, views, ...]` of views."""
    if config.method == "bank":
        graph, keep, variables = dense
        return {"bank": bank_logits(task, graph, keep, variables, config.flops)}
    kind, names = kind_of(config.method), NAMES[config.method]
    if not names:
        return {}
    opened = store.open_store(knowledge_folder(config, kind), source=task.sources[kind])
    found = opened.load(names)
    return found if kind == "views" else {name: array[:, 0] for name, array in found.items()}


def knowledge_folder(config: Config, kind: Kind) -> Path:
    """Return where the knowledge of this kind is stored."""
    return config.workdir / f"knowledge-{kind}"


def _view_of(config: Config) -> ViewOf | None:
    stored = config.stored_views
    if config.method == "views":
        return lambda examples, epoch: jnp.full_like(examples, epoch % stored)
    if config.method == "crossed":
        return partial(knowledge.alternate_views, stored=stored)
    return None


def _tail(config: Config, variables: Any) -> Callable[[jax.Array], jax.Array]:
    """Return the last block and the classifier of a CIFAR ResNet, in evaluation mode."""
    own = {name: leaves[config.features] for name, leaves in variables.items()}
    head = variables["params"]["classifier"]

    def tail(features: jax.Array) -> jax.Array:
        block = BasicBlock(features=features.shape[-1])
        hidden = cast(jax.Array, block.apply(own, features, train=False))
        logits: jax.Array = jnp.mean(hidden, axis=(1, 2)) @ head["kernel"] + head["bias"]
        return logits

    return tail
