"""The synthetic teacher assistant: a target for each view, without running the teacher.

Fixed knowledge says one thing about all views of an image. Taught that alone, a student learns to
ignore the views, and its answers collapse onto one point per image. The assistant is a small
network between the two: it sees what the teacher stored of the image and what the student makes of
this view, and answers for the view.

Ours: the paper "Compressing Neural Networks on Limited Computing Resources" (IEEE Access 2025)
names such an assistant, but only its abstract is public.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxcompress.arguments import integer, real, require
from jaxcompress.knowledge.losses import cross_entropy, kd

__all__ = [
    "AssistantLosses",
    "Params",
    "assistant_logits",
    "assistant_losses",
    "blend",
    "init_assistant",
]

Params: TypeAlias = dict[str, jax.Array]


def init_assistant(
    key: jax.Array, *, classes: int, knowledge: int, view: int, width: int = 64
) -> Params:
    """Draw the assistant's parameters; at first it repeats the teacher's stored logits.

    Args:
        key: of the draw.
        classes: number of logits.
        knowledge: size of what the teacher stored per example beside its logits, flattened; 0
            for nothing.
        view: size of what the student makes of a view, flattened.
        width: of the hidden layer.

    Returns:
        ``{"knowledge", "view", "bias", "out"}``; the last layer is zero.

    Example:
        >>> params = init_assistant(jax.random.key(0), classes=10, knowledge=0, view=32)
        >>> params["view"].shape, params["out"].shape
        ((32, 64), (64, 10))
    """
    require(
        classes=integer(classes),
        knowledge=integer(knowledge, least=0),
        view=integer(view),
        width=integer(width),
    )
    first, second = jax.random.split(key)
    inputs = classes + knowledge
    return {
        "knowledge": jax.random.normal(first, (inputs, width)) / jnp.sqrt(inputs),
        "view": jax.random.normal(second, (view, width)) / jnp.sqrt(view),
        "bias": jnp.zeros(width),
        "out": jnp.zeros((width, classes)),
    }


def assistant_logits(
    params: Params,
    teacher_logits: jax.Array,
    view_features: jax.Array,
    teacher_features: jax.Array | None = None,
) -> jax.Array:
    """Answer for one view: ``z + W relu(A norm([z, f]) + B norm(stop(g)) + b)``.

    Args:
        params: A = `knowledge`, B = `view`, b = `bias`, W = `out`.
        teacher_logits: z `[batch, classes]`, stored.
        view_features: g `[batch, ...]`, what the student makes of the view: its features or its
            logits. No gradient reaches the student through them.
        teacher_features: f `[batch, ...]`, stored, or None.

    Returns:
        `float32[batch, classes]`.

    Example:
        >>> params = init_assistant(jax.random.key(0), classes=2, knowledge=0, view=3)
        >>> assistant_logits(params, jnp.array([[1.0, 2.0]]), jnp.ones((1, 3))).tolist()
        [[1.0, 2.0]]
    """
    logits = teacher_logits.astype(jnp.float32)
    known = [logits] if teacher_features is None else [logits, _rows(teacher_features)]
    view = jax.lax.stop_gradient(_rows(view_features))
    hidden = _norm(jnp.concatenate(known, axis=-1)) @ params["knowledge"]
    hidden = jax.nn.relu(hidden + _norm(view) @ params["view"] + params["bias"])
    return logits + hidden @ params["out"]


class AssistantLosses(NamedTuple):
    """The two parts of the loss, to be added with weights.

    Attributes:
        assistant: `float32[batch]`, what trains the assistant; the student gets no gradient of it.
        student: `float32[batch]`, what the student learns from the assistant; the assistant gets
            no gradient of it.
    """

    assistant: jax.Array
    student: jax.Array


def assistant_losses(
    assistant: jax.Array,
    student_logits: jax.Array,
    teacher_logits: jax.Array,
    labels: jax.Array,
    temperature: float,
) -> AssistantLosses:
    """Train the assistant on the label near the teacher, and the student on the assistant.

    ``assistant = cross_entropy(a, y) + kd(a, z)`` and ``student = kd(s, stop(a))`` with a the
    assistant's logits, z the teacher's and s the student's.

    Args:
        assistant: `[batch, classes]`, of `assistant_logits`.
        student_logits: `[batch, classes]`, on the same view.
        teacher_logits: `[batch, classes]`, stored.
        labels: `int[batch]`.
        temperature: T > 0 of both distillations.

    Example:
        >>> logits, labels = jnp.array([[1.0, 2.0]]), jnp.array([1])
        >>> assistant_losses(logits, logits, logits, labels, 4.0).student.tolist()
        [0.0]
    """
    require(temperature=real(temperature, above=0))
    assistant_loss = cross_entropy(assistant, labels) + kd(assistant, teacher_logits, temperature)
    taught = kd(student_logits, jax.lax.stop_gradient(assistant), temperature)
    return AssistantLosses(assistant_loss, taught)


def blend(teacher_logits: jax.Array, student_logits: jax.Array, share: Any) -> jax.Array:
    """Mix stored logits with the student's own, ``λ z + (1 - λ) stop(s)``: an assistant for free.

    The simplest target that depends on the view, with nothing to train. Ours, as above.

    Args:
        teacher_logits: z `[batch, classes]`, stored.
        student_logits: s `[batch, classes]`, on the view.
        share: λ, 1 for the fixed knowledge alone; may be traced, e.g. annealed over the steps.

    Example:
        >>> blend(jnp.array([[4.0]]), jnp.array([[0.0]]), 0.75).tolist()
        [[3.0]]
    """
    student = jax.lax.stop_gradient(student_logits.astype(jnp.float32))
    return share * teacher_logits.astype(jnp.float32) + (1 - share) * student


def _rows(features: jax.Array) -> jax.Array:
    return features.astype(jnp.float32).reshape(features.shape[0], -1)


def _norm(rows: jax.Array) -> jax.Array:
    """Bring each row to mean 0 and variance 1: teacher and student differ in scale."""
    rows = rows - rows.mean(axis=-1, keepdims=True)
    return rows * jax.lax.rsqrt(jnp.mean(jnp.square(rows), axis=-1, keepdims=True) + 1e-6)
