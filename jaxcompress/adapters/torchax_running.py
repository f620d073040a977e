"""One call of a PyTorch module on JAX arrays: what torchax leaves open is done here.

* Normalisations are our own (`torchax_norms`).
* `torch.no_grad` stops gradients, as it does in PyTorch.
* Draws start from a key, and what the module keeps for later is forgotten.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax.extend import source_info_util

from jaxcompress.adapters.torch_tensors import as_array
from jaxcompress.adapters.torchax_import import Environment, Tensor, View, without_fast_path
from jaxcompress.adapters.torchax_norms import NORMS
from jaxcompress.annotations import Array, Function, PyTree

__all__ = [
    "Recording",
    "computing",
    "innermost_module",
    "named_errors",
    "to_arrays",
    "to_tensors",
    "unwrapped",
]


# Where an operation comes from is the module's code, not what runs it.
source_info_util.register_exclusion(__file__)


class Recording(Environment):
    """An environment in which `torch.no_grad` stops gradients; made anew for every call."""

    def __init__(self) -> None:
        super().__init__()
        self.records = True
        for function, norm in NORMS.items():
            self.override_op_definition(function, norm)

    def dispatch(self, func: Function, types: Array, args: PyTree, kwargs: PyTree) -> PyTree:
        """Run one operator; without recording its result is a constant to gradients."""
        if func is torch._C._set_grad_enabled:
            self.records = bool(args[0])
        result = super().dispatch(func, types, args, kwargs)
        given = {id(argument) for argument in args}
        if self.records or not isinstance(result, Tensor) or id(result) in given:
            return result
        return Tensor(jax.lax.stop_gradient(result.jax()), self)


@contextlib.contextmanager
def computing(made: Environment, key: jax.Array) -> Iterator[None]:
    """Let PyTorch compute with JAX inside, and as ever outside.

    Args:
        made: of one call.
        key: what random draws start from.
    """
    with warnings.catch_warnings(), without_fast_path(), made.override_property(prng=key):
        # PyTorch asks for 64 bits by default, of which JAX makes 32 unless it is told otherwise.
        warnings.filterwarnings("ignore", message="Explicitly requested dtype")
        warnings.filterwarnings("ignore", message="Casting complex values")
        with torch.enable_grad(), made:
            yield


def to_tensors(inputs: PyTree, made: Environment) -> PyTree:
    """Wrap the arrays of a pytree; numbers, words and None stay."""
    return jax.tree.map(
        lambda leaf: Tensor(jnp.asarray(leaf), made) if hasattr(leaf, "dtype") else leaf, inputs
    )


def to_arrays(result: Any, convert: Function, place: str = "") -> PyTree:
    """Make arrays of the tensors of a result: mappings and data classes become dicts.

    Args:
        result: what a module returned.
        convert: makes an array of a tensor.
        place: where in the outputs this result lies.

    Raises:
        TypeError: if it holds an object of another kind.
    """
    if isinstance(result, torch.Tensor):
        return convert(result)
    if isinstance(result, tuple | list):
        parts = [to_arrays(x, convert, f"{place}/{number}") for number, x in enumerate(result)]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    if dataclasses.is_dataclass(result) and not isinstance(result, Mapping):
        result = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    if isinstance(result, Mapping):
        return {key: to_arrays(x, convert, f"{place}/{key}") for key, x in result.items()}
    if result is None or isinstance(result, bool | int | float):
        return result
    raise TypeError(
        "a module returns tensors in tuples, lists, mappings and data classes, but "
        f"{place.strip('/') or 'its result'} is of {type(result).__name__}; return its tensors, or "
        "do without it (use_cache=False leaves out caches)"
    )


def unwrapped(tensor: torch.Tensor) -> Array:
    """Return the array of a tensor; one that PyTorch itself computed is a constant."""
    if isinstance(tensor, Tensor | View):
        return tensor.jax()
    with torch._C.DisableTorchFunction():
        return as_array(tensor)


def innermost_module(error: BaseException, root: torch.nn.Module) -> str:
    """Name the module, and its class, whose forward an error was raised in, or below."""
    names = {id(module): name for name, module in root.named_modules()}
    place, step = root, error.__traceback__
    while step is not None:
        frame_of: Any = step.tb_frame.f_locals.get("self")
        place = frame_of if id(frame_of) in names else place
        step = step.tb_next
    return f"{names[id(place)] or 'the whole module'} ({type(place).__name__})"


@contextlib.contextmanager
def named_errors(root: torch.nn.Module) -> Iterator[None]:
    """Say in which module an operator failed; what torchax has no lowering for is refused.

    Raises:
        NotImplementedError: where an operator has no lowering.
        TypeError: where a tensor is neither parameter nor buffer nor attribute of a module.
    """
    try:
        yield
    except Exception as error:
        where = innermost_module(error, root)
        if type(error).__name__ == "OperatorNotFound":
            raise NotImplementedError(
                f"every operator of a module needs a lowering to JAX, but in {where}: {error}; "
                "replace the operator in the module's code"
            ) from error
        if isinstance(error, AssertionError) and "mixed math" in str(error):
            raise TypeError(
                f"a module computes with its parameters, buffers and attributes, but in {where} it "
                "meets a tensor that is none of them; register it as a buffer"
            ) from error
        error.add_note(f"in {where} of the adapted module")
        raise
