"""Ways to teach a pruned network what the dense one knew: what `--method` chooses from.

`none` is cross-entropy alone. `logits` adds distillation of one stored answer per image, `views` of
the stored answers to a few views, which are then all that training shows; `live` of a teacher that
runs in every step; `bank` of stored interim networks (EKG). `blend`, `assistant`, `tail` and
`crossed` are synthetic teacher assistants (ours): they make a target for each view of stored
knowledge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
from flax import linen as nn

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.knowledge import (
    Style,
    assistant_logits,
    assistant_losses,
    bank_target,
    blend,
    cross_entropy,
    crossed_targets,
    kd,
    restyle,
)
from jaxcompress.training import Loss

__all__ = ["Features", "Method", "Teaching", "featured_training", "teaching_loss", "trainable"]

Method = Literal["none", "logits", "views", "live", "bank", "blend", "assistant", "tail", "crossed"]

BLEND = 0.7


class Features(NamedTuple):
    """What a network made of a batch on the way to its logits.

    Attributes:
        pooled: `[batch, channels]`, the named submodule's output, averaged over the image.
        map: `[batch, height, width, channels]`, another submodule's output, or None.
    """

    pooled: jax.Array
    map: jax.Array | None


class Teaching(NamedTuple):
    """How a student is taught.

    Attributes:
        method: one of the above.
        weight: of distillation; cross-entropy has the rest.
        temperature: of distillation.
        live: `live(images) -> logits` of the teacher, for the method of that name.
        tail: `tail(map) -> logits`, the teacher's last layers, for the method of that name.
    """

    method: Method
    weight: float = 0.5
    temperature: float = 4.0
    live: Callable[[Any], jax.Array] | None = None
    tail: Callable[[Any], jax.Array] | None = None


def teaching_loss(train: Callable[..., Any], teaching: Teaching) -> Loss:
    """Make the loss of ``{"student": variables, "assistant": params}``.

    Args:
        train: `train(variables, images, key) -> ((logits, features), new_state)`.
        teaching: the method. Batches have the stored arrays it needs: `logits` and `features`
            (of all stored views for `views` and `crossed`), `bank`, or `mean` and `deviation`.
    """

    def loss(variables: PyTree, batch: Batch, key: jax.Array) -> Any:
        (logits, features), state = train(variables["student"], batch["image"], key)
        value = cross_entropy(logits, batch["label"])
        if teaching.method != "none":
            taught, assistant = _taught(teaching, variables["assistant"], logits, features, batch)
            value = (1 - teaching.weight) * value + teaching.weight * taught + assistant
        return value.mean(), ({"student": state}, {})

    return loss


def _taught(
    teaching: Teaching, assistant: Any, logits: jax.Array, features: Features, batch: Batch
) -> tuple[jax.Array, jax.Array | float]:
    """Return the losses of the student and of the assistant, one value per example."""
    temperature = teaching.temperature
    if teaching.method == "assistant":
        stored = batch["logits"]
        answer = assistant_logits(assistant, stored, features.pooled, batch["features"])
        losses = assistant_losses(answer, logits, stored, batch["label"], temperature)
        return losses.student, losses.assistant
    if teaching.method == "crossed":
        known, views = (batch["logits"], features.pooled, batch["features"]), batch["view"]
        targets = crossed_targets(assistant, *known, views, temperature)
        return kd(logits, targets.logits, temperature), targets.assistant
    target = jax.lax.stop_gradient(_target(teaching, logits, features, batch))
    return kd(logits, target, temperature), 0.0


def _target(teaching: Teaching, logits: jax.Array, features: Features, batch: Batch) -> jax.Array:
    if teaching.method == "live":
        assert teaching.live is not None
        return teaching.live(batch["image"])
    if teaching.method == "tail":
        assert teaching.tail is not None and features.map is not None
        return teaching.tail(restyle(features.map, Style(batch["mean"], batch["deviation"])))
    if teaching.method == "bank":
        return bank_target(batch["bank"], logits, teaching.temperature)
    if teaching.method == "views":
        return jax.vmap(lambda views, view: views[view])(batch["logits"], batch["view"])
    stored: jax.Array = batch["logits"]
    return stored if teaching.method == "logits" else blend(stored, logits, BLEND)


def trainable(path: str, leaf: Array) -> bool:
    """Choose the leaves of ``{"student": ..., "assistant": ...}`` that the optimizer changes."""
    del leaf
    return path.startswith(("student/params/", "assistant/"))


def featured_training(module: nn.Module, name: str, map_name: str | None = None) -> Function:
    """Return `train(variables, images, key) -> ((logits, Features), new_state)`.

    `name` is the submodule whose output is averaged, `map_name` the one whose map is given whole.
    A compression applies to this function as to any other of the same variables.
    """

    def only(submodule: nn.Module, method: str) -> bool:
        return method == "__call__" and submodule.path in ((name,), (map_name,))

    def train(variables: PyTree, images: Batch, key: jax.Array | None = None) -> Any:
        collections = [collection for collection in variables if collection != "params"]
        logits, state = module.apply(
            variables,
            images,
            train=True,
            mutable=[*collections, "intermediates"],
            capture_intermediates=only,
            rngs=None if key is None else {"dropout": key},
        )
        state = dict(state)
        intermediates = state.pop("intermediates")
        (features,) = intermediates[name]["__call__"]
        whole = None if map_name is None else intermediates[map_name]["__call__"][0]
        return (logits, Features(features.mean(axis=(1, 2)), whole)), state

    return train
