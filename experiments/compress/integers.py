"""A network in integers: made, trained as rounded floats, and counted as the floats it was."""

from __future__ import annotations

import numpy as np

import jaxcompress as jc
from experiments.compress.data import batches_of
from experiments.compress.fitting import Task
from experiments.compress.methods import matching, size_of, traced
from experiments.compress.model import Model
from experiments.compress.settings import Config
from jaxcompress import quantization, recipes
from jaxcompress.annotations import PyTree
from jaxcompress.compression.record import steps_of

__all__ = ["as_floats", "coded", "is_quantized", "portable", "quantized", "rounded_floats"]


def quantized(task: Task, model: Model, looked: dict[str, np.ndarray], config: Config) -> Model:
    """Put integers in the place of a network's kernels, and of what they are given if asked."""
    graph = traced(task, model)
    result = recipes.quantize(
        model.apply,
        model.variables,
        batches_of(looked, size_of(task)),
        bits=config.bits,
        activations=config.activations,
        examples=config.scoring.looked_at,
        protect=matching(config.protect, graph.sites),
        inputs=task.data.inputs,
        graph=graph,
    )
    return model.after(result.compression, result.variables)


def is_quantized(model: Model) -> bool:
    """Whether the last that was done to a network put integers in the place of its kernels."""
    steps = steps_of(model.compression)
    return bool(steps) and steps[-1].spec["kind"] == "quantize"


def as_floats(model: Model, whole: Model) -> Model:
    """Return a quantized network with the floats that its codes stand for; others as they are.

    Args:
        model: the network.
        whole: what all compressions were done to.
    """
    if not is_quantized(model):
        return model
    floats = quantization.dequantized_variables(model.compression, model.variables)
    before = quantization.float_steps(model.compression)
    return whole._replace(compression=jc.chain()).after(before, floats)


def rounded_floats(model: Model, whole: Model) -> Model:
    """Return the network of floats, to be trained, that gives what a quantized one does."""
    train = whole.train_apply
    floats = quantization.dequantized_variables(model.compression, model.variables)
    return model._replace(
        apply=quantization.fake_quantized(model.compression, whole.apply),
        train_apply=train and quantization.fake_quantized(model.compression, train),
        variables=floats,
    )


def portable(model: Model, whole: Model) -> Model:
    """Return a network for runtimes that convolve no integers: of the same codes, in floats."""
    if not is_quantized(model):
        return model
    return model._replace(apply=quantization.float_arithmetic(model.compression, whole.apply))


def coded(model: Model, floats: PyTree) -> Model:
    """Return a quantized network with the codes of what was trained."""
    return model._replace(variables=steps_of(model.compression)[-1].variables(floats))
