"""Equinox models as `(apply, variables)`; the variables are the model with arrays alone.

The other way: `eqx.combine(small_variables, model)`, where `model` is what the adapter was given.
That holds for layers that read widths off their arrays: `Linear`, `Conv`, `BatchNorm`. Sizes that a
module wrote down are static and stay as they are: `LayerNorm` and `RMSNorm` refuse inputs of
another `shape`; a `GroupNorm` or `MultiheadAttention` that lost groups or heads silently divides
what is left into as many as before. Use `compression.function(apply)` then, or build the module
anew with the sizes that are left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxcompress.adapters.inputs import unpacked
from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph import Trainable, inexact
from jaxcompress.paths import flatten_with_paths
from jaxcompress.training import Running

__all__ = ["equinox_statistics", "equinox_trainable", "from_equinox"]


def from_equinox(
    model: Any, *, train: bool = False, axis_name: str = "batch"
) -> tuple[Callable[..., Any], Any]:
    """Split an Equinox model into a pure function of batches and its arrays.

    Equinox models are called with one example; `apply` maps them over axis 0 of every input.

    Args:
        model: the module, or the pair `(module, state)` of `eqx.nn.make_with_state`, whose module
            is called with the state last and returns `(outputs, state)`.
        train: False for evaluation mode, as `eqx.nn.inference_mode` sets it:
            `apply(variables, *inputs, key=None)`. True for training mode,
            `apply(variables, inputs, key) -> (outputs, state)`: a tuple of inputs is unpacked, and
            the variables after the step are `training.replace_leaves(variables, state)`.
        axis_name: of the batch, as the model's `BatchNorm` was told.

    Returns:
        `(apply, variables)`, where a key is split over the examples and passed on; the arrays are
        the same for both modes.

    Example:
        >>> import jax.numpy as jnp
        >>> import equinox as eqx
        >>> apply, variables = from_equinox(eqx.nn.Linear(3, 2, key=jax.random.key(0)))
        >>> apply(variables, jnp.ones((4, 3))).shape
        (4, 2)
    """
    import equinox as eqx

    is_pair = isinstance(model, tuple)
    in_mode = eqx.nn.inference_mode(model, value=not train)
    variables, static = eqx.partition(in_mode, eqx.is_array)

    def mapped(variables: PyTree, inputs: tuple[PyTree, ...], key: jax.Array | None) -> Any:
        whole = eqx.combine(variables, static)
        module, state = whole if is_pair else (whole, None)
        keys = None if key is None else jax.random.split(key, len(inputs[0]))

        def one(example: tuple[Any, ...], key: jax.Array | None) -> Any:
            arguments = (*example, state) if is_pair else example
            return module(*arguments) if key is None else module(*arguments, key=key)

        axes = (0, None) if is_pair else 0
        outputs = jax.vmap(one, in_axes=(0, 0), out_axes=axes, axis_name=axis_name)(inputs, keys)
        return outputs if is_pair else (outputs, None)

    def apply(variables: PyTree, *inputs: PyTree, key: jax.Array | None = None) -> Any:
        return mapped(variables, inputs, key)[0]

    def train_apply(variables: PyTree, inputs: PyTree, key: jax.Array | None = None) -> Any:
        outputs, state = mapped(variables, unpacked(inputs), key)
        return outputs, ((None, state) if is_pair else {})  # under the paths of the variables

    return (train_apply if train else apply), variables


def equinox_statistics(model: Any) -> list[Running]:
    """Return the running statistics of the model's `eqx.nn.BatchNorm`s, for `training.reestimate`.

    Args:
        model: the pair `(module, state)` that `from_equinox` was given.

    Example:
        >>> import equinox as eqx
        >>> pair = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, axis_name="batch", mode="batch")
        >>> equinox_statistics(pair)
        [Running(mean='1/1/0', var='1/1/1', batches='1/0')]
    """
    import equinox as eqx

    module, state = model
    paths = {id(leaf): path for path, leaf in flatten_with_paths((None, state))[0].items()}

    def is_norm(node: Any) -> bool:
        return isinstance(node, eqx.nn.BatchNorm)

    running = []
    for norm in filter(is_norm, jax.tree.leaves(module, is_leaf=is_norm)):
        averages_batches = norm.batch_state_index is not None
        index = norm.batch_state_index if averages_batches else norm.ema_state_index
        leaves = [*state.get(index), *([state.get(norm.batch_counter)] * averages_batches)]
        running.append(Running(*(paths[id(leaf)] for leaf in leaves)))
    return running


def equinox_trainable(model: Any) -> Trainable:
    """Return `trainable(path, leaf)`: accepts inexact leaves outside `eqx.nn.State`.

    Args:
        model: what `from_equinox` was given.

    Example:
        >>> import equinox as eqx
        >>> pair = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, axis_name="batch", mode="batch")
        >>> trainable = equinox_trainable(pair)
        >>> leaves, _ = flatten_with_paths(from_equinox(pair)[1])
        >>> [path for path, leaf in leaves.items() if trainable(path, leaf)]
        ['0/weight', '0/bias']
    """
    import equinox as eqx

    def mark(node: Array) -> Any:
        is_state = isinstance(node, eqx.nn.State)
        return jax.tree.map(lambda _: True, node) if is_state else False

    marks = jax.tree.map(
        mark,
        eqx.filter(model, eqx.is_array),
        is_leaf=lambda node: isinstance(node, eqx.nn.State),
    )
    states = frozenset(p for p, is_state in flatten_with_paths(marks)[0].items() if is_state)
    return lambda path, leaf: path not in states and inexact(path, leaf)
