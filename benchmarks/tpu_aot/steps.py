"""What is compiled of a network: each public step of the library, as a user would jit it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcompress as jc
from benchmarks.tpu_aot.networks import Network
from jaxcompress import training
from jaxcompress.annotations import Batch, Function, PyTree
from jaxcompress.knowledge.store.capture import intermediates
from jaxcompress.prune import candidate_losses, gated, importance, learn, ones
from jaxcompress.prune.learned import gate_optimizer

__all__ = ["STEPS", "Program"]

CANDIDATES, INNER = 8, 2


class Program(NamedTuple):
    """A function, its abstract arguments, and how they lie on the devices.

    Attributes:
        function: to be jitted.
        arguments: abstract.
        split: of each argument, the axis that is split over devices; None where all hold it.
        donate: positions of arguments whose memory may be used again.
    """

    function: Function
    arguments: tuple[PyTree, ...]
    split: tuple[int | None, ...]
    donate: tuple[int, ...] = ()


def _evaluated(apply: Function, variables: PyTree, network: Network) -> Program:
    return Program(apply, (variables, network.batch[network.input]), (None, 0))


def evaluation(network: Network) -> Program:
    """The network as it is."""
    return _evaluated(network.apply, network.variables, network)


def half(network: Network, multiple_of: int) -> Program:
    """The network at half of its FLOPs, the same part of every group."""
    prune = _halved(network, multiple_of)
    small = jax.eval_shape(prune.variables, network.variables)
    return _evaluated(prune.function(network.apply), small, network)


def _halved(network: Network, multiple_of: int) -> jc.Compression:
    scores = {name: np.arange(group.width) for name, group in network.graph.groups.items()}
    budget = jc.Budget(flops=0.5)
    keep = jc.select(network.graph, scores, budget, uniform=True, multiple_of=multiple_of)
    return jc.shrink(network.graph, keep)


def factorized(network: Network) -> Program:
    """Every site at a quarter of its full rank, in the first of its forms."""
    sites = {path: site for path, site in network.graph.sites.items() if site.forms}
    ranks = {path: max(1, site.forms[0].full // 4) for path, site in sites.items()}
    lowrank = jc.factorize(network.graph, ranks)
    small = jax.eval_shape(lowrank.variables, network.variables)
    return _evaluated(lowrank.function(network.apply), small, network)


def masked(network: Network) -> Program:
    """The network with a gate on every channel, given as an argument."""
    gates = _abstract(ones(network.graph))
    apply = gated(network.graph, network.apply)
    inputs = network.batch[network.input]
    return Program(apply, (network.variables, gates, inputs), (None, None, 0))


def train(network: Network, prune: jc.Compression | None = None) -> Program:
    """A step of SGD with momentum and weight decay, its state donated."""
    prune = jc.chain() if prune is None else prune
    train_apply = prune.function(network.train)

    def loss(variables: PyTree, batch: Batch, key: jax.Array) -> Any:
        logits, state = train_apply(variables, batch[network.input], key)
        value = jc.knowledge.cross_entropy(logits.astype(jnp.float32), batch["label"])
        return value.mean(), (state, {})

    tx = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, momentum=0.9))
    step = training.train_step(loss, tx)
    small = jax.eval_shape(prune.variables, network.variables)
    state = jax.eval_shape(lambda v: training.init_state(v, tx), small)
    return Program(step, (state, network.batch, _key()), (None, 0, None), donate=(0,))


def taylor(network: Network) -> Program:
    """The gradient of a batch with respect to every gate."""
    score = lambda v, batches: importance.taylor(network.graph, network.loss, v, batches)  # noqa: E731
    return Program(score, (network.variables, _stacked(network.batch, 1)), (None, 1))


def fisher(network: Network) -> Program:
    """The squared gradients of single examples at a random mask."""

    def score(variables: PyTree, batches: Batch, key: jax.Array) -> Any:
        return importance.fisher(network.graph, network.loss, variables, batches, key=key)

    arguments = network.variables, _stacked(network.batch, 1), _key()
    return Program(score, arguments, (None, 1, None))


def meta(network: Network) -> Program:
    """The gradient of one episode of second order, of two inner steps."""

    def score(variables: PyTree, support: Batch, query: Batch) -> Any:
        return importance.meta(network.graph, network.loss, variables, support, query)

    support = _stacked(_stacked(network.batch, INNER), 1)
    arguments = network.variables, support, _stacked(network.batch, 1)
    return Program(score, arguments, (None, 2, 1))


def learned(network: Network) -> Program:
    """An update of learned gates without inner steps."""
    pair = learn(
        network.graph,
        network.loss,
        jc.Budget(flops=0.5),
        steps=60,
        optimizer=gate_optimizer(60),
    )
    scores = {name: jnp.ones(group.width) for name, group in network.graph.groups.items()}
    state = _abstract(pair.init(scores))
    return Program(pair.update, (state, network.variables, network.batch), (None, None, 0))


def candidates(network: Network) -> Program:
    """The losses of eight candidates on one batch."""

    def losses(variables: PyTree, gates: PyTree, batch: Batch) -> jax.Array:
        return candidate_losses(network.graph, network.loss, variables, gates, batch, together=1)

    gates = _stacked(_abstract(ones(network.graph)), CANDIDATES)
    return Program(losses, (network.variables, gates, network.batch), (None, None, 0))


def capture(network: Network) -> Program:
    """A teacher's logits and every feature map that a submodule of the first level returns."""
    layers = sorted(name for name in network.variables["params"] if "block" in name)
    teacher = intermediates(network.module, layers[-2:], train=False)
    return _evaluated(teacher, network.variables, network)


def reestimate(network: Network) -> Program:
    """BatchNorm statistics over two batches."""

    def renew(variables: PyTree, batches: Batch, key: jax.Array) -> PyTree:
        return training.reestimate(network.train, variables, batches, key=key)

    batches = _stacked(network.batch[network.input], 2)
    return Program(renew, (network.variables, batches, _key()), (None, 1, None))


def _key() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))


def _abstract(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def _stacked(tree: PyTree, count: int) -> PyTree:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), tree)


STEPS: Mapping[str, Callable[[Network], Program]] = {
    "evaluation": evaluation,
    "half, free widths": lambda network: half(network, 1),
    "half, multiples of 8": lambda network: half(network, 8),
    "half, multiples of 128": lambda network: half(network, 128),
    "factorized": factorized,
    "masked": masked,
    "training": train,
    "training at half": lambda network: train(network, _halved(network, 8)),
    "taylor": taylor,
    "fisher": fisher,
    "meta": meta,
    "learned gates": learned,
    "candidates": candidates,
    "capture": capture,
    "reestimate": reestimate,
}
