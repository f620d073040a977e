"""What importances are computed from: a network, its examples, and what is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.backend import compiled
from jaxcompress.compiled import entry, stacked
from jaxcompress.graph import Graph
from jaxcompress.recipes.distances import Distance, distance_loss
from jaxcompress.recipes.examples import Mask

__all__ = ["Ask", "Problem", "ask_of"]

Loss: TypeAlias = Callable[[PyTree, Batch], jax.Array]
Ask: TypeAlias = Callable[[Any], tuple[Loss, Any]]
"""`ask(batches) -> (loss, batches with the whole network's answers)`."""


class Problem(NamedTuple):
    """A network of which channels are to be scored.

    Attributes:
        graph: of the network.
        variables: its variables.
        groups: the groups that may be pruned.
        batches: `batches(key, number, size) -> batches`, pytrees of `[number, size, ...]`.
        loss: `loss(variables, batch) -> scalar`; None where there are no labels.
        ask: of the network's own answers; None to do with the loss alone.
    """

    graph: Graph
    variables: PyTree
    groups: tuple[str, ...]
    batches: Callable[[jax.Array, int, int], Any]
    loss: Loss | None
    ask: Ask | None

    def by_loss(self, batches: Any) -> tuple[Loss, PyTree]:
        """Return the loss and the batches it reads; of the network's answers where there is none.

        Raises:
            ValueError: if there is neither.
        """
        if self.loss is not None:
            return self.loss, batches
        if self.ask is None:
            raise ValueError("scores need a loss= or a distance=, but both are None; pass one")
        return self.ask(batches)

    def by_labels(self) -> Loss:
        """Return the loss, for scores of gradients at the whole network.

        Raises:
            ValueError: if there is none: the distance from the network's own answers is least at
                the whole network, where its gradients vanish.
        """
        if self.loss is None:
            raise ValueError(
                "gradients at the whole network need a loss= of labels, because the distance from "
                "its own answers has none there, but loss is None; pass one, or take Fisher()"
            )
        return self.loss

    def by_answers(self, batches: Any) -> tuple[Loss, PyTree]:
        """Return the distance from the network's answers; the loss where these are not asked."""
        return self.by_loss(batches) if self.ask is None else self.ask(batches)


def ask_of(
    functions: tuple[Callable[..., Any], Callable[..., Any] | None],
    variables: PyTree,
    inputs: Callable[[Any], Any],
    distance: Distance,
    mask: Mask | None = None,
) -> Ask:
    """Make the function that asks the whole network, and the loss that compares with its answers.

    Args:
        functions: `apply(variables, inputs) -> outputs`, which answers, and
            `train_apply(variables, inputs, key) -> (outputs, state)`, which is compared with the
            answers; None to compare `apply` itself. Its key is always the same one.
        variables: of the whole network.
        inputs: what of a batch the network is given.
        distance: between outputs and answers.
        mask: which positions of a batch are no padding; None where all count.
    """
    apply, train_apply = functions
    compared = apply if train_apply is None else _outputs(train_apply)
    loss = distance_loss(compared, distance)

    def ask(batches: Any) -> tuple[Loss, PyTree]:
        answer, number = compiled(apply), len(jax.tree.leaves(batches)[0])
        # Batch by batch: `inputs` knows nothing of the axis in front.
        single = [entry(batches, i) for i in range(number)]
        each = [inputs(batch) for batch in single]
        answers = [answer(variables, batch_inputs) for batch_inputs in each]
        asked = {"inputs": stacked(each), "answers": stacked(answers)}
        return loss, asked if mask is None else {**asked, "mask": stacked(list(map(mask, single)))}

    return ask


def _outputs(train_apply: Function) -> Callable[[PyTree, Batch], Array]:
    return lambda variables, inputs: train_apply(variables, inputs, jax.random.key(0))[0]
