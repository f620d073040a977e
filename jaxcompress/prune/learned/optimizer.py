"""The optimizer of learned gates: Adam for groups, steps of a shared size for channels."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcompress.annotations import PyTree
from jaxcompress.arguments import integer, real, require
from jaxcompress.prune.learned.scores import Learned

__all__ = ["gate_optimizer", "scale_by_shared_rms"]


class SharedState(NamedTuple):
    """State of `scale_by_shared_rms`.

    Attributes:
        taken: `int32`, how many steps were taken.
        mean: tree of mean gradients.
        square: tree of mean squared gradients.
    """

    taken: jax.Array
    mean: Any
    square: Any


def scale_by_shared_rms(
    b1: float = 0.8, b2: float = 0.95, share: float = 0.5
) -> optax.GradientTransformation:
    """Divide mean gradients by a root mean square between their own and that of all entries.

    m / (v^((1 - share) / 2) V^(share / 2)), with m and v bias-corrected averages of rates b1 and b2
    of the gradient and its square, and V the mean of v over all entries of all leaves. With share 0
    this is Adam, under which entries whose gradients are mere noise move as far as the others;
    with share 1 they stay, but entries far from the others hardly count. Ours.

    Example:
        >>> shared = scale_by_shared_rms(share=1.0)
        >>> gradient = jnp.array([3.0, 4.0, 0.0, 0.0])
        >>> change, _ = shared.update(gradient, shared.init(gradient))
        >>> [round(float(entry), 3) for entry in change]
        [1.2, 1.6, 0.0, 0.0]
    """

    require(
        b1=real(b1, least=0, below=1),
        b2=real(b2, least=0, below=1),
        share=real(share, least=0, most=1),
    )

    def init(params: PyTree) -> SharedState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return SharedState(jnp.int32(0), zeros, zeros)

    def update(
        updates: PyTree, state: SharedState, params: PyTree = None
    ) -> tuple[Any, SharedState]:
        taken = state.taken + 1
        mean = optax.tree.update_moment(updates, state.mean, b1, 1)
        square = optax.tree.update_moment(updates, state.square, b2, 2)
        unbiased = optax.tree.bias_correction(square, b2, taken)
        common = jnp.sqrt(
            jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(unbiased)]).mean()
        )

        def scaled(m: jax.Array, v: jax.Array) -> jax.Array:
            return m / ((jnp.sqrt(v) + 1e-8) ** (1 - share) * (common + 1e-8) ** share)

        changes = jax.tree.map(scaled, optax.tree.bias_correction(mean, b1, taken), unbiased)
        return changes, SharedState(taken, mean, square)

    return optax.GradientTransformation(init, update)


def gate_optimizer(
    steps: int, rate: float = 0.1, channel_rate: float = 0.2
) -> optax.GradientTransformation:
    """Make the optimizer of `Learned`, its rates falling to 0 by a cosine over the steps.

    Args:
        steps: how many are planned.
        rate: of the groups' offsets and alpha, by Adam.
        channel_rate: of the channels' offsets, by `scale_by_shared_rms`; 0 leaves them at 0.

    Example:
        >>> learned = Learned({"a": jnp.zeros(())}, jnp.zeros(()), {"a": jnp.zeros(2)})
        >>> outer = gate_optimizer(10)
        >>> gradient = jax.tree.map(jnp.ones_like, learned)
        >>> changes, _ = outer.update(gradient, outer.init(learned), learned)
        >>> round(float(changes.alpha), 3), [round(float(u), 3) for u in changes.channels["a"]]
        (-0.1, [-0.2, -0.2])
    """
    require(
        steps=integer(steps), rate=real(rate, least=0), channel_rate=real(channel_rate, least=0)
    )
    groups = optax.adam(optax.cosine_decay_schedule(rate, steps), b1=0.8, b2=0.95)
    channels = optax.chain(
        scale_by_shared_rms(),
        optax.scale_by_learning_rate(optax.cosine_decay_schedule(channel_rate, steps)),
    )
    labels = Learned("groups", "groups", "channels")  # type: ignore[arg-type]
    return optax.partition({"groups": groups, "channels": channels}, labels)
