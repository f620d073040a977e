"""PyTorch modules as `(apply, variables)`, computed by JAX through torchax.

The variables are `{"params": {...}, "buffers": {...}}`, flat dicts under the names of the module's
state dict. A call makes a copy of the module around the arrays it is given, so that nothing that a
forward keeps, counts or updates stays behind; parameters that share a tensor are one leaf.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import source_info_util

from jaxcompress.adapters.inputs import unpacked
from jaxcompress.adapters.torch_tensors import Module, as_array, held
from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph import Trainable
from jaxcompress.training import Running

__all__ = ["from_torch", "torch_statistics", "torch_trainable"]


source_info_util.register_exclusion(__file__)


def from_torch(module: Module, *, train: bool = False) -> tuple[Callable[..., Any], Any]:
    """Make a pure function of a `torch.nn.Module` and its arrays; the module is left alone.

    PyTorch and torchax come with the extra `torch`. Inputs and outputs are JAX arrays, channels
    where the module has them; mappings and data classes among the outputs become dicts. What
    PyTorch computes in 64 bits JAX computes in 32, unless `jax_enable_x64` is set.

    Gradients are JAX's: those of what `detach` or `torch.no_grad` leave, but the backward of a
    `torch.autograd.Function` is not asked. The size of the batch cannot be symbolic.

    Args:
        module: the module; later changes of it change nothing here. On the device `meta` it gives
            shapes instead of arrays, which is all that `trace` needs.
        train: False for evaluation mode, as `module.eval()` sets it: `apply(variables, *inputs)`.
            True for training mode, `apply(variables, inputs, key) -> (outputs, state)`: a tuple of
            inputs is unpacked, dropout draws from the key, and `state` holds the new value of all
            buffers (running statistics). The variables after the step are
            `training.replace_leaves(variables, state)`.

    Returns:
        `(apply, variables)`, the variables alike for both modes; keywords are passed on. All of
        `params` counts as trainable, unless `torch_trainable(module)` is passed.

    Raises:
        ValueError: if a buffer holds integers that 32 bits cannot; when `apply` is called, if
            variables are missing.
        NotImplementedError: then, if an operator has no lowering to JAX.
        TypeError: then, if a forward meets a tensor that the module does not hold, or returns what
            is no tensor.

    Example:
        >>> import torch
        >>> import jax.numpy as jnp
        >>> apply, variables = from_torch(torch.nn.Linear(3, 2))
        >>> apply(variables, jnp.ones((4, 3))).shape
        (4, 2)
        >>> {name: leaf.shape for name, leaf in variables["params"].items()}
        {'weight': (2, 3), 'bias': (2,)}
    """
    source = _without_memory(module)
    variables, attributes = _arrays(module)

    def run(
        variables: PyTree, inputs: PyTree, keywords: PyTree, key: jax.Array
    ) -> tuple[PyTree, PyTree]:
        from jaxcompress.adapters import torchax_running as running

        made = running.Recording()
        given = running.to_tensors({**variables, "attributes": attributes}, made)
        arguments, named = running.to_tensors((inputs, keywords), made)
        filled = _filled(source, given).train(train)
        with running.computing(made, key):
            with running.named_errors(filled):
                outputs = running.to_arrays(filled(*arguments, **named), running.unwrapped)
            buffers = held(filled)["buffers"].items()
            after = {name: running.unwrapped(buffer) for name, buffer in buffers}
        return outputs, {"buffers": after} if after else {}

    def apply(variables: PyTree, *inputs: PyTree, **keywords: Any) -> Any:
        return run(variables, inputs, keywords, jax.random.key(0))[0]

    def train_apply(variables: PyTree, inputs: PyTree, key: jax.Array, **keywords: Any) -> Any:
        return run(variables, unpacked(inputs), keywords, key)

    return (train_apply if train else apply), variables


def _without_memory(module: Module) -> Module:
    """Copy a module around tensors of shapes alone."""
    places = [tensor for kind in held(module).values() for tensor in kind.values()]
    return copy.deepcopy(module, {id(tensor): tensor.detach().to("meta") for tensor in places})


def _filled(source: Module, given: dict[str, dict[str, Any]]) -> Module:
    """Copy a module around other tensors; what shared one shares one again."""
    kinds = held(source)
    missing = [
        f"{kind}/{name}"
        for kind, tensors in kinds.items()
        for name in tensors
        if name not in given.get(kind, {})
    ]
    if missing:
        raise ValueError(
            "a module is called with all of its variables, but there are no "
            f"{', '.join(missing)}; pass the variables of from_torch, or what became of them"
        )
    memo = {id(old): given[kind][name] for kind in kinds for name, old in kinds[kind].items()}
    return copy.deepcopy(source, memo)


def _arrays(module: Module) -> tuple[PyTree, dict[str, Array]]:
    """Return the variables, and the other tensors that the module holds."""
    kinds, wide = held(module), []
    made: dict[str, dict[str, Array]] = {kind: {} for kind in kinds}
    for kind, tensors in kinds.items():
        for name, tensor in tensors.items():
            made[kind][name] = as_array(tensor)
            if made[kind][name] is None:
                wide.append(name)
    if wide:
        raise ValueError(
            "JAX keeps integers in 32 bits unless it is told otherwise, but more are in "
            f"{', '.join(wide)}; set jax_enable_x64"
        )
    attributes = made.pop("attributes")
    return {kind: arrays for kind, arrays in made.items() if arrays}, attributes


def torch_trainable(module: Module) -> Trainable:
    """Return `trainable(path, leaf)`: accepts the parameters that require gradients.

    Example:
        >>> import torch
        >>> module = torch.nn.Linear(3, 2)
        >>> _ = module.bias.requires_grad_(False)
        >>> trainable = torch_trainable(module)
        >>> trainable("params/weight", None), trainable("params/bias", None)
        (True, False)
    """
    params = held(module)["params"]
    paths = frozenset(f"params/{name}" for name, p in params.items() if p.requires_grad)
    return lambda path, leaf: path in paths


def torch_statistics(module: Module) -> list[Running]:
    """Return the running statistics of the module's BatchNorms, for `training.reestimate`.

    Example:
        >>> import torch
        >>> torch_statistics(torch.nn.Sequential(torch.nn.BatchNorm2d(3)))
        [Running(mean='buffers/0.running_mean', var='buffers/0.running_var', batches=None)]
    """
    means = [name for name in held(module)["buffers"] if name.endswith("running_mean")]
    starts = [f"buffers/{name.removesuffix('running_mean')}" for name in means]
    return [Running(f"{start}running_mean", f"{start}running_var") for start in starts]
