"""`distill`: from a teacher, or what is stored of it, to the loss that its student trains on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.arguments import integer, real, require
from jaxcompress.finite import require_finite
from jaxcompress.knowledge import alternate_views, crossed_targets, init_assistant
from jaxcompress.knowledge.store import LOGITS, Store
from jaxcompress.recipes.answers import Answers, check_store, compare_of, live, records_of, stored
from jaxcompress.recipes.distances import TEMPERATURE, Compare, Distance
from jaxcompress.recipes.examples import Inputs, Mask, inputs_of
from jaxcompress.recipes.labelling import label_loss

__all__ = ["Lesson", "Live", "distill"]


class Live(NamedTuple):
    """A teacher that answers in every step.

    Attributes:
        apply: `apply(variables, inputs) -> outputs`, in evaluation mode.
        variables: its variables.
    """

    apply: Callable[[PyTree, Batch], Array]
    variables: PyTree


Teacher: TypeAlias = Live | tuple[Callable[[PyTree, Batch], Array], PyTree] | Store
"""Who teaches: live, as `(apply, variables)`, or by stored answers."""


class Lesson(NamedTuple):
    """What training needs to teach a student; no loop is in it.

    Attributes:
        loss: `loss(variables, batch, key=None) -> scalar`, to differentiate.
        training_loss: `(variables, batch, key) -> (scalar, (new_state, metrics))`, the same for
            `training.train_step`.
        knowledge: stored arrays `{name: [examples, ...]}`, or `[examples, views, ...]`: the rows of
            a batch's examples belong into the batch, under these names. Empty for a live teacher.
        view_of: `view_of(examples, epoch) -> int[batch]`, which views to show, also to be put into
            the batch, as `view`; None where the inputs are to be as they were for the store.
        variables: `variables(student's, key) -> what loss takes`: the student's alone, or, for
            crossed views, `{"student", "assistant"}`.
    """

    loss: Callable[..., jax.Array]
    training_loss: Callable[..., Any]
    knowledge: Mapping[str, np.ndarray]
    view_of: Callable[[jax.Array, jax.Array], jax.Array] | None
    variables: Callable[[Any, jax.Array], Any]


def distill(
    train_apply: Function,
    teacher: Teacher,
    *,
    labels: Callable[[Any], jax.Array] | None = None,
    weight: float = 0.5,
    distance: Distance = "classes",
    crossed: int | None = None,
    features: str | None = None,
    inputs: Inputs = inputs_of,
    mask: Mask | None = None,
) -> Lesson:
    """Make the loss that asks a student for what its teacher says.

    L = weight * distance(student(x), teacher(x)) + (1 - weight) * cross_entropy(student(x), label),
    means over the batch; by default `kd` at temperature 4 and weight 1/2, as in all experiments
    here. Without labels, L is the distance alone. Where a store holds several views of each image,
    training shows these alone, or, with `crossed`, others too: an assistant answers for views that
    are not stored, and is taught on those that are (`knowledge.crossed_targets`).

    Of sequences, outputs `[batch, length, classes]`, both terms are means over the positions that
    `mask` says are there, then over the batch: what stands at padding changes neither the loss nor
    a gradient. Their temperature is 1, not 4, which is worth a tenth of a bit per character
    (`benchmarks.sequence_knowledge`); another one: `distance=functools.partial(kd, temperature=2)`.
    Stored answers may be the k largest logits, compared by `kd_top_k` at the store's temperature.

    Args:
        train_apply: the student, `train_apply(variables, inputs, key) -> (outputs, new_state)`, in
            training mode; `lambda v, x, key: (apply(v, x), {})` for one without state. With
            `crossed`, its outputs are `(logits, features [batch, crossed])`.
        teacher: `(apply, variables)` to ask in every step, or an opened store of logits, whole or
            the k largest. These stand in the batch as `logits`, or as `logits/values`,
            `logits/indices` and `logits/rest`, which a distance that is a function is given as one
            dict `{"values", "indices", "rest"}`.
        labels: `labels(batch) -> int[batch]`, e.g. `operator.itemgetter("label")`, or `int[batch,
            length]`, e.g. of `knowledge.next_tokens`; positions of negative labels have none.
        weight: of the distance, in (0, 1]; 1 without labels.
        distance: "classes" for logits, "values" for all else, or a function.
        crossed: the width of the student's features; None without an assistant.
        features: the stored record `[..., width]` that the assistant reads beside logits, if any.
        inputs: what of a batch the network is given; its `image`, or the batch itself.
        mask: `mask(batch) -> [batch, length]`, nonzero where a position is no padding, e.g.
            `operator.itemgetter("mask")`; None counts every position.

    Returns:
        The loss and what it needs.

    Raises:
        ValueError: if the weight is out of range, a live teacher's variables hold NaN or infinity,
            the store holds no logits, or crossed views are asked for where fewer than two are
            stored, or of the k largest; when the loss runs, if a mask is of other positions than
            the outputs.
        TypeError: if the teacher is neither.

    Example:
        >>> apply = lambda variables, x: x @ variables
        >>> student = lambda variables, x, key: (apply(variables, x), {})
        >>> lesson = distill(student, (apply, jnp.eye(3)))
        >>> float(lesson.loss(jnp.eye(3), jnp.ones((2, 3))))
        0.0
        >>> float(lesson.loss(2 * jnp.eye(3), jnp.arange(6.0).reshape(2, 3))) > 0
        True
    """
    require(weight=real(weight, above=0, most=1), crossed=integer(crossed, least=0, optional=True))
    _check(teacher, crossed, features, distance)
    teaching = _Teaching(
        train_apply,
        stored(teacher) if isinstance(teacher, Store) else live(*teacher, inputs),
        compare_of(distance, teacher),
        labels,
        1.0 if labels is None else weight,
        None if crossed is None else (features or ""),
        inputs,
        (lambda batch: None) if mask is None else mask,
    )

    def loss(variables: PyTree, batch: Batch, key: jax.Array | None = None) -> jax.Array:
        return _value(teaching, variables, batch, key)[0]

    def training_loss(variables: PyTree, batch: Batch, key: jax.Array) -> PyTree:
        value, state = _value(teaching, variables, batch, key)
        return value, (state, {"loss": value})

    knowledge = _knowledge(teacher, features)
    start, view_of = _start(knowledge, crossed, features), _view_of(teacher, crossed)
    return Lesson(loss, training_loss, knowledge, view_of, start)


class _Teaching(NamedTuple):
    """What the loss is made of; `crossed` is None, or the record that an assistant reads, or ""."""

    train_apply: Function
    answers: Answers
    compare: Compare
    labels: Callable[[Any], jax.Array] | None
    weight: float
    crossed: str | None
    inputs: Inputs
    mask: Callable[[Any], Array | None]


def _value(
    teaching: _Teaching, variables: PyTree, batch: Batch, key: Array
) -> tuple[jax.Array, PyTree]:
    """Return the loss and the new state."""
    there = teaching.mask(batch)
    if teaching.crossed is None:
        outputs, state = teaching.train_apply(variables, teaching.inputs(batch), key)
        answers = jax.lax.stop_gradient(teaching.answers(batch))
        value = teaching.weight * teaching.compare(outputs, answers, there).mean()
    else:
        (outputs, made), new = teaching.train_apply(
            variables["student"], teaching.inputs(batch), key
        )
        read, state = batch[teaching.crossed] if teaching.crossed else None, {"student": new}
        known = batch[LOGITS], made, read, batch["view"]
        targets = crossed_targets(variables["assistant"], *known, TEMPERATURE)
        taught = teaching.weight * teaching.compare(outputs, targets.logits, there)
        value = (taught + targets.assistant).mean()
    if teaching.labels is not None:
        labelled = label_loss(outputs, teaching.labels(batch), there)
        value += (1 - teaching.weight) * labelled.mean()
    return value, state


def _check(teacher: Teacher, crossed: int | None, features: str | None, distance: Distance) -> None:
    if isinstance(teacher, Store):
        check_store(teacher, crossed, features, distance)
    elif not (isinstance(teacher, tuple) and len(teacher) == 2):
        raise TypeError(
            "a teacher is (apply, variables), or a store by `knowledge.store.open_store`, but is "
            f"{type(teacher).__name__}"
        )
    elif crossed is not None:
        raise ValueError("crossed views hold one stored view back; store two or more views")
    else:
        require_finite("the teacher's variables", teacher[1], "train or load them again")


def _knowledge(teacher: Teacher, features: str | None) -> dict[str, np.ndarray]:
    """Read what a lesson needs: without further views, of the first axis of examples alone."""
    if not isinstance(teacher, Store):
        return {}
    arrays = teacher.load([*records_of(teacher), *([] if features is None else [features])])
    has_views = teacher.manifest.views["count"] > 1
    return arrays if has_views else {name: array[:, 0] for name, array in arrays.items()}


def _view_of(teacher: Teacher, crossed: int | None) -> Callable[[jax.Array, jax.Array], Any] | None:
    stored = teacher.manifest.views["count"] if isinstance(teacher, Store) else 1
    if stored < 2:
        return None
    if crossed is not None:
        return lambda examples, epoch: alternate_views(examples, epoch, stored=stored)
    return lambda examples, epoch: jnp.full_like(examples, epoch % stored)


def _start(
    knowledge: Mapping[str, np.ndarray], crossed: int | None, features: str | None
) -> Callable[[Any, jax.Array], Any]:
    """Return the function that adds an assistant to the student's variables, where there is one."""
    if crossed is None:
        return lambda variables, key: variables
    stored = 0 if features is None else knowledge[features].shape[-1]
    sizes = {"knowledge": stored, "view": crossed}
    classes = knowledge[LOGITS].shape[-1]
    return lambda variables, key: {
        "student": variables,
        "assistant": init_assistant(key, classes=classes, **sizes),
    }
