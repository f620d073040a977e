"""NNX modules as `(apply, variables)`; the variables are an `nnx.State`.

The other way: `nnx.merge(nnx.graphdef(model), small_variables)`, arrays may have other shapes;
`nnx.update(model, small_variables)` changes a model in place. That holds for layers that read
widths off their arrays: `Linear`, `Conv`, `BatchNorm`, `LayerNorm`, `RMSNorm`. A number that a
module wrote down stays as it is: a `GroupNorm` that lost groups fails by their old number. Use
`compression.function(apply)` then, or build the module anew with the number that is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.adapters.inputs import unpacked
from jaxcompress.annotations import PyTree
from jaxcompress.graph import Trainable
from jaxcompress.paths import flatten_with_paths

__all__ = ["from_nnx", "nnx_trainable"]


def from_nnx(model: Any, *, train: bool = False) -> tuple[Callable[..., Any], Any]:
    """Split an `nnx.Module` into a pure function and its variables; the model is left alone.

    Args:
        model: the module; what it is called with follows the variables in `apply`.
        train: False for evaluation mode, as `model.eval()` sets it: `apply(variables, *inputs)`.
            True for training mode, `apply(variables, inputs, key) -> (outputs, state)`: a tuple of
            inputs is unpacked, random streams start from the key, and `state` holds the new value
            of all that is neither `nnx.Param` nor of random streams (batch statistics). The
            variables after the step are `training.replace_leaves(variables, state)`.

    Returns:
        `(apply, variables)`; the variables, an `nnx.State`, are the same for both modes.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> apply, variables = from_nnx(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
        >>> apply(variables, jnp.ones((4, 3))).shape
        (4, 2)
        >>> sorted(flatten_with_paths(variables)[0])
        ['bias', 'kernel']
    """
    from flax import nnx

    in_mode = nnx.with_attributes(
        model, deterministic=not train, use_running_average=not train, raise_if_not_found=False
    )
    graphdef, variables = nnx.split(in_mode)

    def apply(variables: PyTree, *inputs: PyTree, **keywords: Any) -> Any:
        return nnx.merge(graphdef, variables)(*inputs, **keywords)

    def train_apply(variables: PyTree, inputs: PyTree, key: jax.Array, **keywords: Any) -> Any:
        merged = nnx.merge(graphdef, variables)
        streams = [node for _, node in nnx.iter_graph(merged) if isinstance(node, nnx.RngStream)]
        for number, stream in enumerate(streams):
            stream.key[...] = jax.random.fold_in(key, number)
            stream.count[...] = jnp.zeros_like(stream.count[...])
        outputs = merged(*unpacked(inputs), **keywords)
        kept = nnx.Any(nnx.Param, nnx.RngState)
        return outputs, nnx.state(merged, nnx.Not(kept))

    return (train_apply if train else apply), variables


def nnx_trainable(model: Any) -> Trainable:
    """Return `trainable(path, leaf)`: accepts the leaves of the model that are `nnx.Param`.

    Example:
        >>> from flax import nnx
        >>> trainable = nnx_trainable(nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
        >>> trainable("scale", None), trainable("mean", None)
        (True, False)
    """
    from flax import nnx

    paths = frozenset(flatten_with_paths(nnx.state(model, nnx.Param))[0])
    return lambda path, leaf: path in paths
