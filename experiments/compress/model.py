"""Trained models as functions of their variables, whatever framework they were written in."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from flax import nnx

import jaxcompress as jc
from experiments.compress.references import call, function_of
from jaxcompress import adapters
from jaxcompress.annotations import Batch, Function, Json, PyTree
from jaxcompress.training import Running

__all__ = ["Model", "adapted", "given_model"]

MODES = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}
"""Keywords by which Linen modules are told their mode, and what they say of training."""
ACCEPTED = (
    "a torch.nn.Module, an NNX module, an Equinox module or (module, state), (module, variables) "
    "of Linen, or (apply, variables); an example of its inputs may follow"
)


class Model(NamedTuple):
    """A trained network.

    Attributes:
        kind: what it was made of.
        apply: `apply(variables, inputs) -> outputs`, in evaluation mode.
        train_apply: `train_apply(variables, inputs, key) -> (outputs, state)`, in training mode;
            None where there is none.
        variables: of both; shapes alone where they are still to be trained.
        example: inputs `[examples, ...]` as the network takes them; None if none were given.
        statistics: the running statistics of BatchNorms; None for the leaves named mean and var,
            if there are any.
        network: name and configuration of a shipped one.
        compression: how it came to be what it is.
        origin: function and variables before that, where a shipped one came compressed.
    """

    kind: str
    apply: Function
    train_apply: Function | None
    variables: PyTree
    example: PyTree = None
    statistics: Sequence[Running] | None = None
    network: tuple[str, Mapping[str, Json]] | None = None
    compression: jc.Compression = jc.chain()
    origin: tuple[Function, PyTree] | None = None

    def after(self, change: jc.Compression, variables: PyTree) -> Model:
        """Return what a change, made for this network, leaves of it.

        Args:
            change: the compression.
            variables: of what is left.
        """
        train = self.train_apply
        return self._replace(
            apply=change.function(self.apply),
            train_apply=None if train is None else change.function(train),
            variables=variables,
            compression=jc.chain(self.compression, change),
        )


def given_model(reference: str) -> Model:
    """Call the function that names a model of one's own, and adapt what it returns.

    Raises:
        ValueError: if there is no such function, it fails, or returns no model.
    """
    return adapted(call(function_of(reference, "model"), reference, "model"), reference)


def adapted(given: Any, reference: str) -> Model:
    """Recognise a model by its type.

    Args:
        given: the model, or a tuple that starts with it.
        reference: where it comes from, for errors.

    Raises:
        ValueError: if it is none of those that are known; they are listed.

    Example:
        >>> adapted((lambda variables, x: x @ variables, 2.0), "mine:make").kind
        'function'
    """
    first, *rest = given if isinstance(given, tuple) and given else (given,)
    for is_kind, adapt in KINDS:
        if is_kind(first):
            try:
                return adapt(first, *rest)
            except TypeError as error:
                got = ", ".join(type(part).__name__ for part in (first, *rest))
                raise ValueError(
                    f"model: {reference} returns {ACCEPTED}; but it returned ({got}): {error}"
                ) from error
    raise ValueError(
        f"model: {reference} returns {ACCEPTED}; but it returned {type(given).__name__}"
        + (f" of {type(first).__name__}" if first is not given else "")
    )


def _linen(module: nn.Module, variables: PyTree, example: PyTree = None) -> Model:
    modes = [name for name in inspect.signature(module.__call__).parameters if name in MODES]  # type: ignore[operator]
    evaluating: dict[str, Any] = {name: not MODES[name] for name in modes}
    training: dict[str, Any] = {name: MODES[name] for name in modes}

    def apply(variables: PyTree, inputs: Batch) -> Any:
        return module.apply(variables, inputs, **evaluating)

    def train_apply(variables: PyTree, inputs: Batch, key: jax.Array) -> Any:
        kept = [name for name in variables if name != "params"]
        rngs = {"dropout": key}
        outputs, state = module.apply(variables, inputs, **training, mutable=kept, rngs=rngs)
        return outputs, dict(state)

    return Model("Linen", apply, train_apply, variables, example)


def _nnx(module: nnx.Module, example: PyTree = None) -> Model:
    apply, variables = adapters.from_nnx(module)
    train_apply, _ = adapters.from_nnx(module, train=True)
    return Model("NNX", apply, train_apply, variables, example)


def _equinox(module: Any, *rest: Any) -> Model:
    import equinox as eqx

    has_state = bool(rest) and isinstance(rest[0], eqx.nn.State)
    whole = (module, rest[0]) if has_state else module
    (example,) = rest[has_state:] or (None,)
    apply, variables = adapters.from_equinox(whole)
    in_training, _ = adapters.from_equinox(whole, train=True)
    parameters = inspect.signature(module.__call__).parameters.values()
    takes_key = any(p.name == "key" or p.kind is p.VAR_KEYWORD for p in parameters)

    def train_apply(variables: PyTree, inputs: Batch, key: jax.Array) -> Any:
        return in_training(variables, inputs, key if takes_key else None)

    statistics = adapters.equinox_statistics(whole) if has_state else []
    return Model("Equinox", apply, train_apply, variables, example, statistics)


def _torch(module: Any, example: PyTree = None) -> Model:
    apply, variables = adapters.from_torch(module)
    train_apply, _ = adapters.from_torch(module, train=True)
    if hasattr(example, "detach"):
        example = example.detach().numpy()
    statistics = adapters.torch_statistics(module)
    return Model("PyTorch", apply, train_apply, variables, example, statistics)


def _function(
    apply: Function, variables: PyTree, example: PyTree = None, train_apply: Function | None = None
) -> Model:
    return Model("function", apply, train_apply, variables, example)


def _is_loaded(package: str, attribute: str) -> Callable[[Any], bool]:
    """Tell instances of a framework's modules, without importing it: who made one has done so."""

    def is_kind(value: Any) -> bool:
        loaded = sys.modules.get(package)
        return loaded is not None and isinstance(value, getattr(loaded, attribute))

    return is_kind


KINDS: tuple[tuple[Callable[[Any], bool], Callable[..., Model]], ...] = (
    (_is_loaded("torch.nn", "Module"), _torch),
    (_is_loaded("equinox", "Module"), _equinox),
    (lambda value: isinstance(value, nnx.Module), _nnx),
    (lambda value: isinstance(value, nn.Module), _linen),
    (callable, _function),
)
