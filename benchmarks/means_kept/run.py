"""Cut residual widths with each meaning of a mean, and judge what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

import jaxcompress as jc
from benchmarks.means_kept import digits
from benchmarks.means_kept.scores import SCORES
from benchmarks.means_kept.settings import Config
from experiments.common import data, sentences
from experiments.common.environment import describe, prepare
from jaxcompress import models
from jaxcompress.annotations import Function, Json, PyTree
from jaxcompress.artifact import load_hugging_face
from jaxcompress.files import write_json

__all__ = ["main"]

MEANS = ("kept", "all")
Judge = Callable[[Function, PyTree], dict[str, float]]


def cut(
    apply: Function, variables: PyTree, inputs: PyTree, shares: tuple[float, ...], judge: Judge
) -> Iterator[dict[str, Json]]:
    """Judge the whole network, then what each meaning leaves at each share of the streams."""
    yield {"share": 1.0, **judge(apply, variables)}
    graphs = {means: jc.trace(apply, variables, inputs, means=means) for means in MEANS}
    for (name, score), share, (means, graph) in product(SCORES.items(), shares, graphs.items()):
        scores = score(graph, variables)
        keep = {group: _largest(scores[group], share) for group in jc.graph.streams(graph)}
        prune = jc.shrink(graph, keep)
        about = {"score": name, "share": share, "means": means}
        yield about | judge(prune.function(apply), prune.variables(variables))


def _largest(scores: jax.Array | np.ndarray, share: float) -> np.ndarray:
    """Keep a share of the channels, those of the largest score."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    return np.isin(np.arange(len(order)), order[: round(share * len(order))])


def _minilm(config: Config) -> Iterator[dict[str, Json]]:
    module = models.build("minilm_l6")
    variables = load_hugging_face(config.weights_dir, module)
    pairs = sentences.read_pairs(
        config.data_dir / "sts-dev.tsv", config.weights_dir / "tokenizer.json"
    )
    apply = sentences.similarity(sentences.embedding(module))
    one = {"tokens": jnp.ones((1, 16), jnp.int32), "mask": jnp.ones((1, 16), jnp.int32)}
    part = sentences.first(pairs, config.pairs)

    def judge(function: Function, values: PyTree) -> dict[str, float]:
        return {"spearman": sentences.correlation(function, values, part)}

    about = {"network": "MiniLM-L6", "pairs": len(pairs.labels), "share": 1.0}
    yield about | {"spearman": sentences.correlation(apply, variables, pairs)}
    for row in cut(apply, variables, (one, one), config.shares, judge):
        yield about | {"pairs": len(part.labels)} | row


def _digits(config: Config) -> Iterator[dict[str, Json]]:
    dataset = data.load("digits")
    image = data.image_shape(dataset)
    for name, module in digits.NETWORKS.items():
        apply = models.evaluation_function(module)
        for seed in config.seeds:
            variables = digits.trained(module, dataset, seed)
            judge = lambda function, values: {  # noqa: E731
                "accuracy": digits.accuracy(function, values, dataset)
            }
            for row in cut(apply, variables, image, config.shares, judge):
                yield {"network": name, "seed": seed, **row}


def main(config: Config) -> None:
    """Measure all, print a line each, write the file."""
    prepare()
    rows = []
    for measured in (_minilm, _digits):
        for row in measured(config):
            rows.append(row)
            print(row, flush=True)
    write_json(config.output, {"environment": describe(), "rows": rows})
