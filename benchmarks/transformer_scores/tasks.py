"""The networks: what is traced, what scores may look at, and how a cut one is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

import jaxcompress as jc
from benchmarks.means_kept import digits
from benchmarks.transformer_scores.settings import Config
from experiments.common import data, sentences
from jaxcompress import models
from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.artifact import load_hugging_face
from jaxcompress.models.stacking import stack_layers
from jaxcompress.recipes.distances import Distance

__all__ = ["LONGEST", "Task", "digits_task", "minilm_task"]

LONGEST = 32
"""Tokens of a calibration sentence: all have one length, and few are longer."""


class Task(NamedTuple):
    """A network to be cut.

    Attributes:
        network: what it is called in results.
        graph: of `apply`.
        apply: what is judged.
        variables: its variables.
        examples: inputs of `apply` that scores may see, `[examples, ...]`.
        distance: of its outputs from those of the whole network.
        encoder: what activations are looked at in, and the batches that it is given.
        batches: these.
        counted: which of its positions count.
        judge: `judge(gates) -> value`, of what the gates leave.
    """

    network: str
    graph: jc.Graph
    apply: Function
    variables: PyTree
    examples: PyTree
    distance: Distance
    encoder: Function
    batches: list[Any]
    counted: Callable[[Any], Array] | None
    judge: Callable[[Mapping[str, Array]], float]


def minilm_task(config: Config, scan: bool) -> Task:
    """Return MiniLM-L6, with a leaf for every layer or scanned over stacked ones."""
    module = models.build("minilm_l6", scan=scan)
    variables = load_hugging_face(config.weights_dir, models.build("minilm_l6"))
    variables = stack_layers(variables) if scan else variables
    encoder = sentences.embedding(module)
    apply = sentences.similarity(encoder)
    one = {"tokens": jnp.ones((1, 16), jnp.int32), "mask": jnp.ones((1, 16), jnp.int32)}
    graph = jc.trace(apply, variables, (one, one))
    pairs = _pairs(config, "train")
    examples = _calibration(pairs, config.calibration)
    judged = sentences.first(_pairs(config, "dev"), config.pairs)
    name = "MiniLM-L6, scanned" if scan else "MiniLM-L6"
    return Task(
        name,
        graph,
        apply,
        variables,
        examples,
        "values",
        encoder,
        list(examples),
        lambda inputs: inputs["mask"],
        _correlation(graph, apply, variables, judged),
    )


def _pairs(config: Config, split: str) -> sentences.Pairs:
    table, tokenizer = config.data_dir / f"sts-{split}.tsv", config.weights_dir / "tokenizer.json"
    return sentences.read_pairs(table, tokenizer)


def _calibration(pairs: sentences.Pairs, count: int) -> tuple[PyTree, PyTree]:
    """Take pairs of short sentences at equal distances, so that all sources are among them."""
    lengths = [max(map(len, pair)) for pair in zip(*pairs.sides, strict=True)]
    short = np.flatnonzero(np.array(lengths) <= LONGEST)
    chosen = short[np.linspace(0, len(short) - 1, count).astype(int)]
    first, second = (
        sentences.padded([side[place] for place in chosen], LONGEST) for side in pairs.sides
    )
    return first, second


def _correlation(
    graph: jc.Graph, apply: Function, variables: PyTree, pairs: sentences.Pairs
) -> Callable[[Mapping[str, Array]], float]:
    """Make the judge: removing equals masking, and gates need no program of their own."""
    run, batches = jax.jit(jc.gated(graph, apply)), sentences.batches(pairs)

    def judge(gates: Mapping[str, Array]) -> float:
        values = np.empty(len(pairs.labels))
        for places, inputs in batches:
            values[places] = run(variables, gates, inputs)
        return float(spearmanr(values, pairs.labels).statistic)

    return judge


def digits_task(config: Config) -> Task:
    """Return a small vision transformer, trained on the digits."""
    dataset, name = data.load("digits"), "transformer, LayerNorm"
    module = digits.NETWORKS[name]
    apply = models.evaluation_function(module)
    variables = digits.trained(module, dataset, config.seeds[0])
    graph = jc.trace(apply, variables, data.image_shape(dataset))
    prepared = data.preprocess(dataset)
    examples = prepared(dataset.train_images[: config.calibration])
    run, images = jax.jit(jc.gated(graph, apply)), prepared(dataset.test_images)

    def judge(gates: Mapping[str, Array]) -> float:
        logits = np.asarray(run(variables, gates, images))
        return float(np.mean(logits.argmax(-1) == dataset.test_labels))

    name = "ViT, digits"
    return Task(name, graph, apply, variables, examples, "classes", apply, [examples], None, judge)
