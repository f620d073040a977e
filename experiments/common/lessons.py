"""Lessons: for each way to teach, what is read from the store, which views are shown, which loss.

`experiments.common.distill` has the losses as functions of arrays; here they meet the store and
the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import jaxcompress as jc
from experiments.common.data import Dataset, image_shape
from experiments.common.distill import Method, Teaching, featured_training, teaching_loss
from experiments.common.interim import bank_logits
from experiments.common.loop import ViewOf
from experiments.common.student import Student
from experiments.common.teacher import Kind, kind_of, source_of
from jaxcompress import knowledge, models
from jaxcompress.annotations import PyTree
from jaxcompress.knowledge import store
from jaxcompress.models.resnet import BasicBlock
from jaxcompress.training import Loss

__all__ = ["Dense", "Lesson", "knowledge_folder", "lesson"]


class Dense(NamedTuple):
    """The teacher, and what is kept of it."""

    graph: jc.Graph
    keep: dict[str, np.ndarray]
    variables: PyTree


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


def lesson(
    method: Method,
    settings: Student,
    module: nn.Module,
    dense: Dense,
    small: PyTree,
    dataset: Dataset,
    key: jax.Array,
) -> Lesson:
    """Prepare one way to teach the pruned network.

    Args:
        method: the way.
        settings: of submodules, views, temperature and folder.
        module: the teacher.
        dense: its variables, and what the student keeps of it.
        small: the student's variables.
        dataset: its training images.
        key: of the assistant.
    """
    prune = jc.shrink(dense.graph, dense.keep)
    before = settings.before_features if method == "tail" else None
    train = prune.function(featured_training(module, settings.features, before))
    apply = models.evaluation_function(module)
    extra = _extra(method, settings, module, dense, dataset)
    teaching = Teaching(
        method,
        temperature=settings.temperature,
        live=lambda images: apply(dense.variables, images),
        tail=_tail(settings.features, dense.variables) if method == "tail" else None,
    )
    assistant = {}
    if method in ("assistant", "crossed"):
        _, features = jax.eval_shape(train, small, image_shape(dataset), key)[0]
        sizes = {"knowledge": extra["features"].shape[-1], "view": features.pooled.shape[-1]}
        assistant = knowledge.init_assistant(key, classes=dataset.num_classes, **sizes)
    shown = _view_of(method, settings.stored_views)
    return Lesson(teaching_loss(train, teaching), assistant, extra, shown)


STORED: Mapping[Method, tuple[str, ...]] = MappingProxyType(
    {
        "none": (),
        "live": (),
        "logits": ("logits",),
        "blend": ("logits",),
        "views": ("logits",),
        "assistant": ("logits", "features"),
        "crossed": ("logits", "features"),
        "tail": ("mean", "deviation"),
    }
)
"""What each method but `bank` reads from the store."""


def _extra(
    method: Method, settings: Student, module: nn.Module, dense: Dense, dataset: Dataset
) -> dict[str, np.ndarray]:
    """Read what the method needs: `[examples, ...]`, or `[examples, views, ...]` of views."""
    if method == "bank":
        graph, keep, variables = dense
        train = models.training_function(module)
        return {"bank": bank_logits(graph, keep, train, variables, dataset, settings.flops)}
    if not STORED[method]:
        return {}
    kind = kind_of(method)
    source = source_of(settings, dataset.train_images, kind)
    opened = store.open_store(knowledge_folder(settings.workdir, kind), source=source)
    arrays = opened.load(STORED[method])
    return arrays if kind == "views" else {name: array[:, 0] for name, array in arrays.items()}


def knowledge_folder(workdir: Path, kind: Kind) -> Path:
    """Return where the knowledge of this kind is stored."""
    return workdir / f"knowledge-{kind}"


def _view_of(method: Method, stored: int) -> ViewOf | None:
    if method == "views":
        return lambda examples, epoch: jnp.full_like(examples, epoch % stored)
    if method == "crossed":
        return partial(knowledge.alternate_views, stored=stored)
    return None


def _tail(name: str, variables: PyTree) -> Callable[[jax.Array], jax.Array]:
    """Return the last block and the classifier of a CIFAR ResNet, in evaluation mode."""
    last = {collection: leaves[name] for collection, leaves in variables.items()}
    head = variables["params"]["classifier"]

    def tail(features: jax.Array) -> jax.Array:
        block = BasicBlock(features=features.shape[-1])
        hidden = cast(jax.Array, block.apply(last, features, train=False))
        logits: jax.Array = jnp.mean(hidden, axis=(1, 2)) @ head["kernel"] + head["bias"]
        return logits

    return tail
