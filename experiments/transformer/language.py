"""A decoder that is trained here, character by character, on the sources of Python's library."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.characters import VOCABULARY, first, texts
from experiments.common.keeping import restored, save
from experiments.transformer.learning import learn
from experiments.transformer.settings import Config
from experiments.transformer.task import Task, inputs_of
from jaxcompress import knowledge, models
from jaxcompress.annotations import Batch, Function, PyTree
from jaxcompress.processes import agree

__all__ = ["language_task"]

NETWORK = models.Decoder(VOCABULARY, 64, 3, heads=2, kv_heads=2, mlp_width=192, tied=True)
JUDGED = 512
"""Sequences of held-out files."""

Run = Callable[[str, Callable[[], dict[str, Any]], list[str]], dict[str, Any]]


def language_task(config: Config, run: Run) -> Task:
    """Train the decoder, or read it if that is done, and say what it is for.

    Args:
        config: of its training.
        run: does a stage once: `run(name, work, files) -> facts`.
    """
    apply = models.evaluation_function(NETWORK)
    sequences, held_out = texts(config.length)
    judged = first(held_out, JUDGED)
    start = models.initialize(NETWORK, jax.random.key(config.seed), inputs_of(first(sequences, 1)))
    folder, text = config.workdir / "teacher", knowledge.fingerprint(sequences["tokens"])
    agree("the text", {"digest": text})

    def work() -> dict[str, Any]:
        variables, loss = learn(_loss(apply), start, sequences, config.training, seed=config.seed)
        save(folder, variables)
        return {"train_bits": loss / math.log(2), "text": text}

    run("teacher", work, ["teacher"])
    variables = restored(folder, start)
    count = config.recovery.steps * config.recovery.batch_size
    return Task(
        None,
        apply,
        variables,
        first(sequences, count),
        distance="classes",
        lesson=lambda logits, known: knowledge.kd_top_k(logits, **known, temperature=1.0),
        top_k=8,
        labels=labels_of,
        mask=itemgetter("mask"),
        judge=lambda function, values: bits(function, values, judged),
        metric="bits per character",
        lower_is_better=True,
    )


def labels_of(batch: Batch) -> jax.Array:
    """Return the next characters, -1 where there are none."""
    return knowledge.next_tokens(batch["tokens"], batch["mask"])


def _loss(apply: Function) -> Any:
    def loss(variables: PyTree, batch: Batch, key: jax.Array) -> Any:
        del key
        value = cross_entropy(apply(variables, inputs_of(batch)), batch)
        return value, ({}, {"loss": value})

    return loss


def cross_entropy(logits: jax.Array, batch: Batch) -> jax.Array:
    """Return the mean over all characters that have a next one, in nats."""
    labels = labels_of(batch)
    losses = knowledge.cross_entropy(logits, jnp.maximum(labels, 0))
    return knowledge.masked_mean(losses, labels >= 0).mean()


def bits(apply: Function, variables: PyTree, judged: dict[str, np.ndarray]) -> float:
    """Return the bits per character of held-out text."""
    loss = jax.jit(lambda v, batch: cross_entropy(apply(v, inputs_of(batch)), batch))
    size = 64
    parts = range(0, len(judged["tokens"]), size)
    batches = [{name: array[i : i + size] for name, array in judged.items()} for i in parts]
    return float(np.mean([loss(variables, batch) for batch in batches])) / math.log(2)
