"""`recipes.prune` on an encoder with labels for every token: budget, law, and worth."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import optax

import jaxcompress as jc
from jaxcompress import models, recipes
from jaxcompress.annotations import Batch, PyTree

WORDS, CLASSES, LENGTH = 12, 4, 6
ENCODER = models.Encoder(WORDS, 16, 1, 4, 24, LENGTH, pooler=False, num_classes=CLASSES)
KEY = jax.random.key(0)
SMALL = recipes.Learned(start=recipes.Fisher(rounds=8, examples=16), steps=24, examples=64)


def batch_of(seed: int, count: int = 64) -> dict[str, np.ndarray]:
    """Draw padded sentences; a token's label is its own and its left neighbour's, added up."""
    random = np.random.default_rng(seed)
    tokens = random.integers(0, WORDS, (count, LENGTH)).astype(np.int32)
    mask = (np.arange(LENGTH) < random.integers(2, LENGTH + 1, (count, 1))).astype(np.int32)
    before = np.concatenate([np.zeros((count, 1), int), tokens[:, :-1]], axis=1)
    return {"tokens": tokens, "mask": mask, "label": ((tokens + before) % CLASSES).astype(np.int32)}


def loss_of(apply: Any, variables: PyTree, batch: Batch) -> jax.Array:
    """Cross-entropy of the tokens that are no padding."""
    logits = apply(variables, batch)
    each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return (each * batch["mask"]).sum() / batch["mask"].sum()


def trained() -> tuple[Any, PyTree, list[Batch]]:
    batches = [batch_of(seed) for seed in range(8)]
    apply, tx = models.evaluation_function(ENCODER), optax.adam(0.01)

    @jax.jit
    def step(variables: PyTree, state: Any, batch: Batch) -> Any:
        gradient = jax.grad(functools.partial(loss_of, apply))(variables, batch)
        change, state = tx.update(gradient, state)
        return optax.apply_updates(variables, change), state

    variables = models.initialize(ENCODER, KEY, batches[0])
    state = tx.init(variables)
    for number in range(80):
        variables, state = step(variables, state, batches[number % len(batches)])
    return apply, variables, batches


def test_an_encoder_is_pruned_with_the_defaults() -> None:
    apply, variables, batches = trained()
    loss, budget = functools.partial(loss_of, apply), jc.Budget(flops=0.7)
    prune = functools.partial(recipes.prune, apply, variables, batches, budget, key=KEY)
    learned = prune(loss=loss, importance=SMALL)
    keys = jax.random.split(KEY, 4)
    drawn = [prune(importance=recipes.Random(), key=key) for key in keys]
    test = batch_of(100, 256)

    def judged(compression: jc.Compression) -> float:
        small = compression.variables(variables)
        share = jc.trace(compression.function(apply), small, test).flops
        assert 0.5 < share / jc.trace(apply, variables, test).flops <= 0.7
        return float(jax.jit(compression.function(loss))(small, test))

    whole = float(jax.jit(loss)(variables, test))
    after, by_chance = judged(learned), float(np.mean([judged(one) for one in drawn]))
    assert whole < 1.0 and whole < after < 0.7 * by_chance, (whole, after, by_chance)
