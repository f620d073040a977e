"""Inner optimizer steps that gradients with respect to gates pass through.

θ_0 = θ,  θ_{k+1}(g) = θ_k - update(∇_θ L(support_k; θ_k, g)),  k = 0 .. K-1

`adapt` takes these steps. Reverse mode through a gradient would keep the activations of every step,
forward and backward. The Hessian is symmetric, so the cotangent v of ∇_θ L needs only its products
with v, which forward mode over reverse gives from θ_k, g and the batch alone: a step stores no
activations, and going back through it costs one gradient and its tangent.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.compression.precision import like, widened
from jaxcompress.graph import Trainable, default_trainable
from jaxcompress.parallel import on_host
from jaxcompress.paths import flatten_with_paths
from jaxcompress.per_device import AxisName, average, per_device

__all__ = ["GatedLoss", "adapt", "check_steps"]

GatedLoss = Callable[[PyTree, Batch, Any], jax.Array]
"""`loss(variables, gates, batch) -> scalar`, as `gated(graph, loss)` makes it."""


def adapt(
    loss: GatedLoss,
    variables: PyTree,
    gates: PyTree,
    support: Batch,
    optimizer: optax.GradientTransformation,
    *,
    order: int = 2,
    trainable: Trainable | None = None,
    axis_name: AxisName = None,
) -> tuple[Any, jax.Array]:
    """Take one optimizer step per support batch, differentiably in the gates.

    Half precision is stepped in float32, and rounded where the loss reads it.

    Args:
        loss: `loss(variables, gates, batch) -> scalar`, twice differentiable in variables and
            gates: with a straight-through estimator inside, second order is no longer exact.
        variables: pytree of arrays; gradients pass to the gates only.
        gates: `{group: float[width]}`, shared by all steps.
        support: pytree of arrays `[steps, batch, ...]`; no steps leave the variables as they are.
        optimizer: any optax optimizer, with a fresh state. The derivative of a square root at 0 is
            infinite: give Adam an `eps_root`.
        order: 2 differentiates through the inner gradients, 1 takes them as constants, so that
            the variables then do not depend on the gates.
        trainable: what the optimizer changes, default `default_trainable`.
        axis_name: of the surrounding `jax.shard_map` or `jax.pmap`, over which each batch is split;
            see `jaxcompress.per_device`.

    Returns:
        The variables after the last step, and `float[steps]`, the loss before each step.

    Raises:
        ValueError: if order is neither 1 nor 2, or no leaf is trainable.

    Example:
        >>> loss = lambda variables, gates, batch: (variables * gates - batch.mean()) ** 2
        >>> after = lambda gate: adapt(loss, 1.0, gate, jnp.ones((1, 4)) * 3, optax.sgd(0.1))[0]
        >>> round(float(after(1.0)), 6), round(float(jax.grad(after)(1.0)), 6)
        (1.4, 0.2)
    """
    require(order=integer(order, least=1, most=2))
    leaves, treedef = flatten_with_paths(variables)
    chosen = trainable or default_trainable(variables)
    params = {path: widened(leaf) for path, leaf in leaves.items() if chosen(path, leaf)}
    if not params:
        raise ValueError(
            f"an inner step changes some leaf, but none of {list(leaves)} is trainable"
        )

    def whole(params: PyTree, rest: PyTree) -> PyTree:
        merged = {**rest, **{path: like(param, leaves[path]) for path, param in params.items()}}
        return jax.tree.unflatten(treedef, [merged[path] for path in leaves])

    def at(params: PyTree, gates: PyTree, rest: PyTree, batch: Batch) -> jax.Array:
        return per_device(loss(whole(params, rest), gates, batch), None, like=params)

    rest = {path: leaf for path, leaf in leaves.items() if path not in params}
    params, gates = per_device((params, gates), axis_name, like=(variables, gates, support))
    gradient = _symmetric_gradient(at)

    def step(carry: tuple[Any, Any], batch: Batch) -> tuple[tuple[Any, Any], jax.Array]:
        params, state = carry
        value, gradients = average(gradient(params, gates, rest, batch), axis_name)
        gradients = lax.stop_gradient(gradients) if order == 1 else gradients
        updates, state = optimizer.update(gradients, state, params)
        carry = optax.apply_updates(params, updates), state
        return per_device(carry, None, like=params), lax.stop_gradient(value)

    start = params, per_device(optimizer.init(params), None, like=params)
    (params, _), losses = _loop(step, start, support)
    return whole(params, rest), losses


def _loop(step: Function, carry: PyTree, inputs: PyTree) -> tuple[Any, jax.Array]:
    """Scan, or in a program for CPUs unroll: kernel gradients inside loops are slow there."""
    steps = range(len(jax.tree.leaves(inputs)[0]))
    if not steps:
        return carry, jnp.zeros(0)

    def unrolled(carry: PyTree, inputs: PyTree) -> tuple[Any, jax.Array]:
        losses = []
        for number in steps:
            carry, loss = step(carry, jax.tree.map(itemgetter(number), inputs))
            losses.append(loss)
        return carry, jnp.stack(losses)

    if len(steps) == 1:
        return unrolled(carry, inputs)

    def scanned(carry: PyTree, inputs: PyTree) -> tuple[Any, jax.Array]:
        return lax.scan(step, carry, inputs)

    return lax.platform_dependent(carry, inputs, cpu=unrolled, default=scanned)


def _symmetric_gradient(loss: Callable[..., jax.Array]) -> Function:
    """Make `f(params, gates, rest, batch) -> (loss, ∇_params)`, its own derivative by symmetry.

    The cotangent v of ∇_params gives (∂²L/∂params² v, ∂²L/∂gates∂params v), which is the tangent
    of (∇_params, ∇_gates) along (v, 0). The value, `rest` and `batch` pass nothing on.
    """
    both = jax.grad(loss, argnums=(0, 1))

    @jax.custom_vjp
    def gradient(params: PyTree, gates: PyTree, rest: PyTree, batch: Batch) -> PyTree:
        return jax.value_and_grad(loss)(params, gates, rest, batch)

    def forward(*inputs: PyTree) -> PyTree:
        # Not `gradient` again: the program would then keep it, and with it the caller's loss.
        return jax.value_and_grad(loss)(*inputs), inputs

    def backward(inputs: PyTree, cotangents: Any) -> PyTree:
        params, gates, rest, batch = inputs
        batch = _after(batch, cotangents[1])
        still = jax.tree.map(jnp.zeros_like, gates)
        _, products = jax.jvp(
            lambda p, g: both(p, g, rest, batch), (params, gates), (cotangents[1], still)
        )
        return *products, None, None

    gradient.defvjp(forward, backward)
    return gradient


def _after(batch: Batch, awaited: Any) -> PyTree:
    """Return the batch, but known only once all that is awaited is.

    Otherwise XLA finds the forward pass's arrays again and keeps them till here, or starts this
    step before the later one has given its memory back; on CPU it drops optimization barriers.
    """
    leaves = [leaf for leaf in jax.tree.leaves(awaited) if leaf.size]
    # Not simplified to 0: in floating point the product might be NaN.
    nothing = 0.0 * sum(leaf.ravel()[0].astype(jnp.result_type(float)) for leaf in leaves)

    def wait(leaf: Array) -> Array:
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf + nothing.astype(leaf.dtype)
        return lax.optimization_barrier((leaf, nothing))[0]

    return jax.tree.map(wait, batch)


def check_steps(losses: Any) -> None:
    """Raise if a loss on the way is not finite; traced losses are not checked.

    Args:
        losses: `float[episodes, steps + 1]`, before each inner step, then the query's.

    Raises:
        FloatingPointError: naming the first episode and step of each kind.

    Example:
        >>> check_steps(jnp.array([[1.0, 2.0, 1.0], [1.0, jnp.nan, jnp.nan]]))
        Traceback (most recent call last):
            ...
        FloatingPointError: losses must stay finite, but in episode 1 that of inner step 1 of 2 is \
nan; lower the inner learning rate, or look for NaN in the support batch
    """
    if isinstance(losses, jax.core.Tracer):
        return
    values = on_host(losses)
    wrong = np.argwhere(~np.isfinite(values))
    if not len(wrong):
        return
    episode, step = wrong[0].tolist()
    last = values.shape[1] - 1
    place = f"inner step {step} of {last}" if step < last else "the query batch"
    which = "support" if step < last else "query"
    raise FloatingPointError(
        f"losses must stay finite, but in episode {episode} that of {place} is "
        f"{values[episode, step]}; lower the inner learning rate, or look for NaN in the "
        f"{which} batch"
    )
