"""How far a changed network is from the answers of the whole one: losses that need no labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, Batch, PyTree
from jaxcompress.knowledge.losses import kd

__all__ = ["TEMPERATURE", "Distance", "check_answers", "distance_of", "distance_loss", "squared"]

TEMPERATURE = 4.0
"""Of `kd`: a trained network answers little but the label to its training images, at 1. Gates
learned for ResNet-56 at 40 % of the FLOPs reach 84.8 % at 1 and 86.2 at 4."""

Distance: TypeAlias = Literal["classes", "values"] | Callable[[PyTree, Batch], jax.Array]
"""classes: outputs are logits `[..., classes]`, compared by `kd` at temperature 4; values: any
arrays, compared by their squared error; or `distance(outputs, answers) -> float[examples]`."""


def squared(outputs: PyTree, answers: Any) -> jax.Array:
    """Return the mean squared error of each output array, added up, in float32.

    Example:
        >>> float(squared(jnp.ones((2, 3)), jnp.zeros((2, 3))))
        1.0
    """
    pairs = zip(jax.tree.leaves(outputs), jax.tree.leaves(answers), strict=True)
    wide = [(output.astype(jnp.float32), answer.astype(jnp.float32)) for output, answer in pairs]
    return sum((jnp.square(output - answer).mean() for output, answer in wide), jnp.zeros(()))


def distance_of(distance: Distance) -> Callable[[PyTree, Batch], jax.Array]:
    """Return the function that a distance stands for.

    Raises:
        ValueError: if it is neither one of the names nor a function.
    """
    if callable(distance):
        return distance
    named: dict[Any, Callable[[PyTree, Batch], jax.Array]] = {
        "classes": partial(kd, temperature=TEMPERATURE),
        "values": squared,
    }
    if distance not in named:
        raise ValueError(
            "distance says how answers are compared: 'classes', 'values', or a function "
            f"(outputs, answers) -> float[examples], but is {distance!r}"
        )
    return named[distance]


def check_answers(
    apply: Callable[[PyTree, Batch], Array], variables: PyTree, inputs: PyTree, distance: Distance
) -> None:
    """Raise unless the network's outputs are what the distance compares; nothing is computed.

    Raises:
        ValueError: if the answers of "classes" are not one array of two classes or more.
    """
    distance_of(distance)
    outputs = jax.tree.leaves(jax.eval_shape(apply, variables, inputs))
    shapes = [leaf.shape for leaf in outputs]
    if distance == "classes" and (len(shapes) != 1 or len(shapes[0]) < 2 or shapes[0][-1] < 2):
        raise ValueError(
            "distance='classes' compares logits [examples, classes] of two classes or more, but "
            f"apply returns arrays of shapes {shapes}; say distance='values', or pass a function"
        )
    wrong = [str(leaf.dtype) for leaf in outputs if not jnp.issubdtype(leaf.dtype, jnp.inexact)]
    if wrong:
        raise ValueError(f"answers are compared as real numbers, but apply returns {wrong}")


def distance_loss(
    function: Callable[[PyTree, Batch], Array], distance: Distance
) -> Callable[[PyTree, Batch], jax.Array]:
    """Make `loss(variables, {"inputs", "answers"})`, the mean distance from given answers.

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
        return compare(function(variables, batch["inputs"]), batch["answers"]).mean()

    return loss
