"""How far a changed network is from the answers of the whole one: losses that need no labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.knowledge import masked_mean, without_padding
from jaxcompress.knowledge.losses import kd
from jaxcompress.knowledge.masking import check_positions

__all__ = [
    "TEMPERATURE",
    "Compare",
    "Distance",
    "check_answers",
    "distance_loss",
    "distance_of",
    "squared",
    "temperature_of",
]

TEMPERATURE = 4.0
"""Of `kd`, one answer an example: a trained network answers little but the label to its training
images, at 1. Gates learned for ResNet-56 at 40 % of the FLOPs reach 84.8 % at 1 and 86.2 at 4."""

POSITION_TEMPERATURE = 1.0
"""Of `kd`, an answer a position: the next token is uncertain already, and answers taught at 1 are
worth a tenth of a bit more than at 4 (`benchmarks.sequence_knowledge`)."""

Distance: TypeAlias = Literal["classes", "values"] | Callable[[PyTree, Batch], jax.Array]
"""classes: outputs are logits `[..., classes]`, compared by `kd` at `temperature_of` them; values:
any arrays, compared by their squared error; or `distance(outputs, answers) -> float[examples]`,
with a mask of padding `float[examples, length]`."""

Compare: TypeAlias = Callable[..., jax.Array]
"""`compare(outputs, answers, mask=None) -> float[examples]`, or a mean of them."""


def temperature_of(logits: jax.Array) -> float:
    """Return 4 for logits `[examples, classes]`, 1 where there is an answer for every position.

    Example:
        >>> temperature_of(jnp.zeros((2, 10))), temperature_of(jnp.zeros((2, 5, 10)))
        (4.0, 1.0)
    """
    return TEMPERATURE if logits.ndim < 3 else POSITION_TEMPERATURE


def _kd(logits: jax.Array, answers: jax.Array) -> jax.Array:
    return kd(logits, answers, temperature_of(logits))


def squared(outputs: PyTree, answers: Any, mask: Array | None = None) -> jax.Array:
    """Return the mean squared error of each output array, added up, in float32.

    With a mask, arrays of three axes or more count where it is nonzero, `float[examples]`.

    Example:
        >>> float(squared(jnp.ones((2, 3)), jnp.zeros((2, 3))))
        1.0
        >>> squared(jnp.ones((1, 2, 3)), jnp.zeros((1, 2, 3)), jnp.array([[1, 0]])).tolist()
        [1.0]
    """
    pairs = zip(jax.tree.leaves(outputs), jax.tree.leaves(answers), strict=True)
    wide = [(output.astype(jnp.float32), answer.astype(jnp.float32)) for output, answer in pairs]
    errors = [jnp.square(output - answer) for output, answer in wide]
    if mask is None:
        return sum((error.mean() for error in errors), jnp.zeros(()))
    return sum((_by_example(error, mask) for error in errors), jnp.zeros(len(mask)))


def _by_example(errors: jax.Array, mask: Array) -> jax.Array:
    """Return the mean of each example, over the positions that are there where it has any."""
    if errors.ndim < 3:
        return errors.reshape(len(errors), -1).mean(-1)
    return masked_mean(errors.reshape(*errors.shape[:2], -1).mean(-1), mask)


def distance_of(distance: Distance) -> Compare:
    """Return the function `(outputs, answers, mask=None)` that a distance stands for.

    With a mask `[examples, length]` of padding, outputs and answers are zero where there is
    padding before they are compared, and an example's distance is the mean over its positions.

    Raises:
        ValueError: if it is neither one of the names nor a function.

    Example:
        >>> logits, mask = jnp.array([[[1.0, 0.0], [jnp.nan, 0.0]]]), jnp.array([[1, 0]])
        >>> distance_of("classes")(logits, logits, mask).tolist()
        [0.0]
    """
    if distance == "values":
        return _squared_inside
    if not callable(distance) and distance != "classes":
        raise ValueError(
            "distance says how answers are compared: 'classes', 'values', or a function "
            f"(outputs, answers) -> float[examples], but is {distance!r}"
        )
    of_each = distance if callable(distance) else _kd

    def compare(outputs: PyTree, answers: Batch, mask: Array | None = None) -> jax.Array:
        if mask is None:
            return of_each(outputs, answers)
        return masked_mean(of_each(*without_padding((outputs, answers), mask)), mask)

    return compare


def _squared_inside(outputs: PyTree, answers: Batch, mask: Array | None = None) -> jax.Array:
    if mask is not None:
        outputs, answers = without_padding((outputs, answers), mask)
    return squared(outputs, answers, mask)


def check_answers(
    apply: Callable[[PyTree, Batch], Array],
    variables: PyTree,
    inputs: PyTree,
    distance: Distance,
    mask: Array | None = None,
) -> None:
    """Raise unless the network's outputs are what the distance compares; nothing is computed.

    Raises:
        ValueError: if the answers of "classes" are not one array of two classes or more, or have
            no positions, or others than the mask.
    """
    distance_of(distance)
    answers = jax.eval_shape(apply, variables, inputs)
    outputs = jax.tree.leaves(answers)
    shapes = [leaf.shape for leaf in outputs]
    if distance == "classes" and (len(shapes) != 1 or len(shapes[0]) < 2 or shapes[0][-1] < 2):
        raise ValueError(
            "distance='classes' compares logits [examples, classes] of two classes or more, but "
            f"apply returns arrays of shapes {shapes}; say distance='values', or pass a function"
        )
    wrong = [str(leaf.dtype) for leaf in outputs if not jnp.issubdtype(leaf.dtype, jnp.inexact)]
    if wrong:
        raise ValueError(f"answers are compared as real numbers, but apply returns {wrong}")
    if mask is not None:
        check_positions(answers, mask)


def distance_loss(
    function: Callable[[PyTree, Batch], Array], distance: Distance
) -> Callable[[PyTree, Batch], jax.Array]:
    """Make `loss(variables, {"inputs", "answers"})`, the mean distance from given answers.

    A batch that holds a `mask` too is compared where that is nonzero.

    Args:
        function: `function(variables, inputs) -> outputs`.
        distance: how outputs and answers are compared.

    Example:
        >>> loss = distance_loss(lambda scale, x: scale * x, "values")
        >>> float(loss(2.0, {"inputs": jnp.ones((2, 3)), "answers": jnp.ones((2, 3))}))
        1.0
    """
    compare = distance_of(distance)

    def loss(variables: PyTree, batch: Batch) -> jax.Array:
        outputs = function(variables, batch["inputs"])
        return compare(outputs, batch["answers"], batch.get("mask")).mean()

    return loss
