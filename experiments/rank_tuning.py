"""Fine-tune a factorized network with the original's stored logits, or by the paper's schedule."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import optax

from experiments import loop, prune
from jaxcompress.knowledge.losses import cross_entropy, kd

__all__ = ["PAPER", "Tuning", "finetune"]


@dataclasses.dataclass(frozen=True)
class Tuning:
    """How a factorized network is trained on.

    Attributes:
        epochs: 0 for none.
        train_images: how many training images; 0 for all.
        rate: learning rate of SGD with momentum 0.9 and weight decay 5e-4.
        schedule: cosine to zero, or a constant rate.
        distillation: share of the loss that compares with the original's stored logits.
        temperature: of the distillation.
        batch_size: images per step.
    """

    epochs: int = 0
    train_images: int = 0
    rate: float = 0.005
    schedule: Literal["cosine", "constant"] = "cosine"
    distillation: float = 0.5
    temperature: float = 4.0
    batch_size: int = 128


# ENC's released solver, of VGG-16: rate 1e-5, divided by 10 only at the last of 320,000 steps.
PAPER = Tuning(epochs=820, rate=1e-5, schedule="constant", distillation=0.0)


def finetune(
    task: prune.Task, train_apply: Any, variables: Any, tuning: Tuning, key: jax.Array
) -> Any:
    """Return the variables after fine-tuning all factors together.

    Args:
        task: the original network and its data.
        train_apply: of the factorized network.
        variables: of the factorized network.
        tuning: for how long, and how.
        key: of the batches and their augmentation.
    """
    dataset = prune.first_images(task.dataset, tuning.train_images)
    share = tuning.distillation

    def loss(own: Any, batch: Any, _: jax.Array) -> Any:
        outputs, state = train_apply(own, batch["image"])
        value = (1 - share) * cross_entropy(outputs, batch["label"])
        if share:
            value += share * kd(outputs, batch["logits"], tuning.temperature)
        return value.mean(), (state, {"loss": value.mean()})

    steps = tuning.epochs * (len(dataset.train_labels) // tuning.batch_size)
    is_cosine = tuning.schedule == "cosine"
    rate = optax.cosine_decay_schedule(tuning.rate, steps) if is_cosine else tuning.rate
    trained = loop.train(
        loss,
        optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(rate, momentum=0.9, nesterov=True)),
        variables,
        dataset,
        epochs=tuning.epochs,
        batch_size=tuning.batch_size,
        key=key,
        mesh=task.mesh,
        views=task.views,
        extra={"logits": prune.stored_logits(task, dataset)} if share else {},
    )
    return trained.state.variables
