"""Ways to teach a pruned network what the dense one knew: what `--method` chooses from.

`none` is cross-entropy alone, `logits` adds distillation of stored logits, `live` of a teacher that
runs in every step, `bank` of stored interim networks (EKG), `blend` and `assistant` of stored
knowledge through a synthetic teacher assistant (ours).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
from flax import linen as nn

from jaxcompress.knowledge import (
    assistant_logits,
    assistant_losses,
    bank_target,
    blend,
    cross_entropy,
    kd,
)
from jaxcompress.training import Loss

__all__ = ["Method", "Teaching", "featured_training", "teaching_loss", "trainable"]

Method = Literal["none", "logits", "live", "bank", "blend", "assistant"]

BLEND = 0.7


class Teaching(NamedTuple):
    """How a student is taught.

    Attributes:
        method: one of the above.
        weight: of distillation; cross-entropy has the rest.
        temperature: of distillation.
        live: `live(images) -> logits` of the teacher, for the method of that name.
    """

    method: Method
    weight: float = 0.5
    temperature: float = 4.0
    live: Callable[[Any], jax.Array] | None = None


def teaching_loss(train: Callable[..., Any], teaching: Teaching) -> Loss:
    """Make the loss of ``{"student": variables, "assistant": params}``.

    Args:
        train: `train(variables, images, key) -> ((logits, features), new_state)`.
        teaching: the method. Batches have the stored arrays it needs: `logits` and `features`,
            or `bank`.
    """

    def loss(variables: Any, batch: Any, key: jax.Array) -> Any:
        (logits, features), state = train(variables["student"], batch["image"], key)
        value = cross_entropy(logits, batch["label"])
        if teaching.method != "none":
            taught, own = _taught(teaching, variables["assistant"], logits, features, batch)
            value = (1 - teaching.weight) * value + teaching.weight * taught + own
        return value.mean(), ({"student": state}, {})

    return loss


def _taught(
    teaching: Teaching, assistant: Any, logits: jax.Array, features: jax.Array, batch: Any
) -> tuple[jax.Array, jax.Array | float]:
    """Return the losses of the student and of the assistant, one value per example."""
    temperature = teaching.temperature
    if teaching.method == "assistant":
        stored = batch["logits"]
        answer = assistant_logits(assistant, stored, features, batch["features"])
        losses = assistant_losses(answer, logits, stored, batch["label"], temperature)
        return losses.student, losses.assistant
    return kd(logits, _target(teaching, logits, batch), temperature), 0.0


def _target(teaching: Teaching, logits: jax.Array, batch: Any) -> jax.Array:
    if teaching.method == "live":
        assert teaching.live is not None
        return jax.lax.stop_gradient(teaching.live(batch["image"]))
    if teaching.method == "bank":
        return bank_target(batch["bank"], logits, teaching.temperature)
    return batch["logits"] if teaching.method == "logits" else blend(batch["logits"], logits, BLEND)


def trainable(path: str, leaf: Any) -> bool:
    """Choose the leaves of ``{"student": ..., "assistant": ...}`` that the optimizer changes."""
    del leaf
    return path.startswith(("student/params/", "assistant/"))


def featured_training(module: nn.Module, name: str) -> Callable[..., Any]:
    """Return `train(variables, images, key) -> ((logits, features), new_state)`.

    Features are what the submodule `name` returns, averaged over the image: `[batch, channels]`.
    A compression applies to this function as to any other of the same variables.
    """

    def only(submodule: nn.Module, method: str) -> bool:
        return method == "__call__" and submodule.path == (name,)

    def train(variables: Any, images: Any, key: jax.Array | None = None) -> Any:
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
        (features,) = state.pop("intermediates")[name]["__call__"]
        return (logits, features.mean(axis=(1, 2))), state

    return train
