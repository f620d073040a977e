"""Every pure step of the library on one small network, made for the axis of a mesh or for none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcompress.graph import trace
from jaxcompress.graph.budget import Budget
from jaxcompress.low_rank import factorize
from jaxcompress.low_rank.statistics import input_covariances, output_covariances
from jaxcompress.per_device import average, slope
from jaxcompress.prune import gated, importance, shrink
from jaxcompress.prune.candidates import candidate_losses, local_search
from jaxcompress.prune.learned import learn
from jaxcompress.sparse import masked
from jaxcompress.training import eval_step, init_state, reestimate, train_step

__all__ = ["BATCH", "ON_THE_HOST", "STEPS", "VARIABLES", "Make", "searched"]

Step = Callable[[Any, Any], Any]
Make = Callable[[str | None], Step]

KEY, TX, BUDGET = jax.random.key(0), optax.sgd(0.1, momentum=0.9), Budget(params=0.6)


def drawn(number: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(KEY, number), shape)


SHAPES = {"first": (4, 3), "up": (3, 4), "down": (4, 3), "head": (3, 3)}
VARIABLES = {name: drawn(number, *shape) for number, (name, shape) in enumerate(SHAPES.items())}
VARIABLES |= {"mean": jnp.zeros(3), "var": jnp.ones(3)}
BATCH = {"image": drawn(4, 16, 4) + 0.5, "label": jnp.arange(16) % 3}


def network(axis_name: str | None = None, train: bool = False) -> Callable[..., Any]:
    """Make a kernel, its mean taken away, a residual branch and a head: `(variables, images)`."""

    def apply(variables: Any, images: jax.Array) -> Any:
        hidden = images @ variables["first"]
        mean = average(hidden.mean(0), axis_name) if train else variables["mean"]
        stream = jnp.tanh(hidden - mean)
        logits = (stream + jnp.tanh(stream @ variables["up"]) @ variables["down"]) @ variables[
            "head"
        ]
        if not train:
            return logits
        var = average(jnp.square(hidden - mean).mean(0), axis_name)
        new = {"mean": mean, "var": var}
        return logits, {name: 0.9 * variables[name] + 0.1 * new[name] for name in new}

    return apply


def loss_of(axis_name: str | None = None, shared: bool = False) -> Callable[..., Any]:
    """Make a loss with batch statistics, of a device's part or, shared, of all devices."""
    apply = network(axis_name, train=True)

    def loss(variables: Any, batch: Any) -> jax.Array:
        logits, _ = apply(variables, batch["image"])
        error = jnp.square(logits - jnp.eye(3)[batch["label"]]).mean()
        value = error + 0.01 * jnp.square(variables["head"]).sum()
        return average(value, axis_name) if shared else value

    return loss


TRAINING = (network(train=True), (BATCH["image"],))
GRAPH = trace(network(), VARIABLES, BATCH["image"], also=[TRAINING])
GATES = {name: jnp.linspace(0.5, 1.5, group.width) for name, group in GRAPH.groups.items()}
SCORES = {name: jnp.arange(1.0, group.width + 1) for name, group in GRAPH.groups.items()}
SMALL = shrink(GRAPH, {name: np.arange(group.width) > 0 for name, group in GRAPH.groups.items()})
LOW_RANK = factorize(GRAPH, {"first": 2, "up": 2})
SITES = {"first": "dense", "up": "dense"}


def rounds(batch: Any) -> Any:
    other = {"image": batch["image"][..., ::-1] * 0.7, "label": batch["label"]}
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), batch, other)


def taylor(shared: bool) -> Make:
    return lambda axis: (
        lambda variables, batch: dict(
            importance.taylor(
                GRAPH, loss_of(axis, shared), variables, rounds(batch), axis_name=axis
            )
        )
    )


def fisher(axis: str | None) -> Step:
    return lambda variables, batch: dict(
        importance.fisher(GRAPH, loss_of(axis), variables, rounds(batch), key=KEY, axis_name=axis)
    )


def meta(order: int) -> Make:
    def make(axis: str | None) -> Step:
        def step(variables: Any, batch: Any) -> Any:
            two = rounds(batch)
            # Two inner steps are a loop on some platforms, one is none: that of first order is.
            support = jax.tree.map(lambda leaf: jnp.stack([leaf[::-1]] * (3 - order), axis=1), two)
            options: Any = {"order": order, "optimizer": TX, "axis_name": axis}
            return dict(importance.meta(GRAPH, loss_of(axis), variables, support, two, **options))

        return step

    return make


def learned(axis: str | None) -> Step:
    pair = learn(GRAPH, loss_of(axis), BUDGET, steps=2, optimizer=TX, inner=TX, axis_name=axis)

    @jax.jit
    def step(variables: Any, batch: Any) -> Any:
        support = jax.tree.map(lambda leaf: leaf[None, ::-1], batch)
        state, losses = pair.update(pair.init(SCORES), variables, batch, support)
        return state.learned, state.total, losses

    return step


def candidates(axis: str | None) -> Step:
    gates = {name: jnp.stack([gate, 2 - gate]) for name, gate in GATES.items()}
    return lambda variables, batch: candidate_losses(
        GRAPH, loss_of(axis), variables, gates, batch, axis_name=axis
    )


def searched(axis: str | None) -> Step:
    options: Any = {"candidates": 4, "rounds": 2, "survivors": 2, "axis_name": axis}
    # Which of two candidates that keep the same channels comes first is a matter of rounding.
    return lambda variables, batch: (
        local_search(
            GRAPH, loss_of(axis), variables, SCORES, BUDGET, batch, key=KEY, **options
        ).loss
    )


def inputs_of_sites(axis: str | None) -> Step:
    return lambda variables, batch: input_covariances(
        GRAPH, network(), variables, rounds(batch)["image"], SITES, axis_name=axis
    )


def outputs_of_sites(axis: str | None) -> Step:
    return lambda variables, batch: output_covariances(
        GRAPH, network(), variables, rounds(batch)["image"], list(SITES), key=KEY, axis_name=axis
    )


def activations(axis: str | None) -> Step:
    return lambda variables, batch: dict(
        importance.activation_norms(
            GRAPH, network(), variables, rounds(batch)["image"], axis_name=axis
        )
    )


def influence(axis: str | None) -> Step:
    return lambda variables, batch: dict(
        importance.block_influence(
            GRAPH, network(), variables, rounds(batch)["image"], axis_name=axis
        )
    )


def reestimated(axis: str | None) -> Step:
    apply = network(axis, train=True)
    return lambda variables, batch: reestimate(
        lambda tree, images, key: apply(tree, images),
        variables,
        rounds(batch)["image"],
        key=KEY,
        axis_name=axis,
    )


def evaluated(axis: str | None) -> Step:
    step = eval_step(network(), axis_name=axis)
    return lambda variables, batch: step(variables, batch | {"mask": batch["label"] > 0})


def trained(shared: bool) -> Make:
    def make(axis: str | None) -> Step:
        apply = network(axis, train=True)

        def loss(variables: Any, batch: Any, key: jax.Array) -> Any:
            value = loss_of(axis, shared)(variables, batch)
            return value, (apply(variables, batch["image"])[1], {"twice": 2 * value})

        options: Any = {"trainable": lambda path, _: path not in ("mean", "var")}
        step = train_step(loss, TX, axis_name=axis, **options)
        return lambda variables, batch: step(init_state(variables, TX, **options), batch, KEY)

    return make


def differentiated(
    change: Callable[..., Any], of: Callable[[Any], Any] = lambda tree: tree
) -> Make:
    """Make the gradient of the loss of a changed function, by the variables that it takes."""

    def make(axis: str | None) -> Step:
        changed = change(loss_of(axis))
        gradient = slope(lambda variables, batch: (changed(variables, batch), None), axis)
        return lambda variables, batch: gradient(of(variables), batch)[1]

    return make


def gated_loss(loss: Callable[..., Any]) -> Callable[..., Any]:
    return lambda variables, batch: gated(GRAPH, loss)(variables, GATES, batch)


def masked_loss(loss: Callable[..., Any]) -> Callable[..., Any]:
    return lambda variables, batch: loss(masked(variables, {"up": VARIABLES["up"] > 0}), batch)


STEPS: dict[str, Make] = {
    "taylor": taylor(shared=False),
    "taylor of a shared loss": taylor(shared=True),
    "fisher": fisher,
    "meta, first order": meta(1),
    "meta, second order": meta(2),
    "learned gates": learned,
    "candidates": candidates,
    "input covariances": inputs_of_sites,
    "output covariances": outputs_of_sites,
    "activation norms": activations,
    "block influence": influence,
    "reestimate": reestimated,
    "eval_step": evaluated,
    "train_step": trained(shared=False),
    "train_step of a shared loss": trained(shared=True),
    "gated": differentiated(gated_loss),
    "shrunk": differentiated(SMALL.function, SMALL.variables),
    "factorized": differentiated(LOW_RANK.function, LOW_RANK.variables),
    "masked": differentiated(masked_loss),
}

ON_THE_HOST = ("taylor", "fisher", "meta, first order", "input covariances", "output covariances")
"""Steps that work otherwise outside of jit: batch by batch, summed in float64."""
