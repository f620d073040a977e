"""The networks that are cut: trained here, with data to score by and data to judge by."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.means_kept import digits
from benchmarks.rotation.settings import Config
from experiments.common import data
from jaxcompress import models
from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.knowledge.losses import cross_entropy

__all__ = ["Problem", "problem"]

CHARACTERS, LENGTH = 128, 64
SIZES: dict[str, Any] = {"width": 96, "depth": 3, "heads": 4}
MODULES: dict[str, Any] = {
    "decoder": models.Decoder(CHARACTERS, kv_heads=4, mlp_width=256, **SIZES),
    "gpt2": models.GPT2(CHARACTERS, positions=LENGTH, **SIZES),
}


class Problem(NamedTuple):
    """A trained network.

    Attributes:
        apply: evaluation function `(variables, inputs) -> logits`.
        variables: its variables.
        calibration: batches `(inputs, labels)` of 32 from what it was trained on.
        test: such batches from what it was not.
    """

    apply: Function
    variables: PyTree
    calibration: list[Batch]
    test: list[Batch]


def problem(name: str, config: Config) -> Problem:
    """Train a network."""
    return _images(config) if name == "vit" else _language(name, config)


def _text() -> tuple[np.ndarray, np.ndarray]:
    """Return the characters of Python's own modules, those of every tenth file apart."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    every = [np.frombuffer(file.read_bytes(), np.uint8) for file in files]
    parts = [[x for i, x in enumerate(every) if (i % 10 == 0) is held] for held in (False, True)]
    train, test = (np.concatenate(part) for part in parts)
    return train[train < CHARACTERS], test[test < CHARACTERS]


def _windows(text: np.ndarray, random: np.random.Generator, batches: int) -> list[Batch]:
    """Draw batches of 32 windows, each with the characters that follow."""
    starts = random.integers(0, len(text) - LENGTH - 1, (batches, 32))
    places = starts[..., None] + np.arange(LENGTH + 1)
    return [(rows[:, :-1], rows[:, 1:]) for rows in text[places].astype(np.int32)]


def _language(name: str, config: Config) -> Problem:
    train, test = _text()
    random, module = np.random.default_rng(config.seed), MODULES[name]
    apply = models.evaluation_function(module)
    inputs = jnp.zeros((1, LENGTH), jnp.int32)
    variables = models.initialize(module, jax.random.key(config.seed), inputs)
    schedule = optax.warmup_cosine_decay_schedule(0, 3e-3, 50, config.steps)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.1))

    @jax.jit
    def step(variables: PyTree, state: Any, batch: Batch) -> tuple[PyTree, Any, Array]:
        def loss(variables: PyTree) -> Array:
            return cross_entropy(apply(variables, batch[0]), batch[1]).mean()

        value, gradient = jax.value_and_grad(loss)(variables)
        change, state = tx.update(gradient, state, variables)
        return optax.apply_updates(variables, change), state, value

    state = tx.init(variables)
    for batch in _windows(train, random, config.steps):
        variables, state, _ = step(variables, state, batch)
    calibration = _windows(train, random, config.calibration)
    return Problem(apply, variables, calibration, _windows(test, random, 16))


def _images(config: Config) -> Problem:
    dataset = data.load("digits")
    module = digits.NETWORKS["transformer, LayerNorm"]
    variables = digits.trained(module, dataset, config.seed, config.epochs)

    def batches(images: Array, labels: Array) -> list[Batch]:
        ready = data.preprocess(dataset)(images)
        return [(ready[i : i + 32], labels[i : i + 32]) for i in range(0, len(labels) - 31, 32)]

    train = batches(dataset.train_images, dataset.train_labels)[: config.calibration]
    test = batches(dataset.test_images, dataset.test_labels)
    return Problem(models.evaluation_function(module), variables, train, test)
