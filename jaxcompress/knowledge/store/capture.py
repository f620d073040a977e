"""A teacher made of a Linen module: its logits, and what its submodules returned, by path."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import jax

from jaxcompress.annotations import Batch, PyTree
from jaxcompress.knowledge.store.planning import Teacher
from jaxcompress.knowledge.store.storage import LOGITS
from jaxcompress.paths import flatten_with_paths

__all__ = ["intermediates"]


def intermediates(
    module: Any,
    paths: Collection[str] = (),
    *,
    preprocess: Callable[[Any], Any] | None = None,
    **arguments: Any,
) -> Teacher:
    """Make a teacher that returns logits and feature maps.

    Args:
        module: a Linen module whose call returns logits.
        paths: of submodules, keys joined by ``/``, e.g. `stage3_block2`; each gives an output of
            that name: what the submodule's last call returned.
        preprocess: what turns the drawn images into the module's input, e.g. normalising.
        **arguments: of the module's call, e.g. `train=False`.

    Returns:
        `teacher(variables, images) -> {"logits": [batch, classes], path: [batch, ...]}`.

    Raises:
        ValueError: when it runs, if there is no such submodule; those there are are listed.

    Example:
        >>> from flax import linen as nn
        >>> module = nn.Sequential([nn.Dense(3), nn.relu, nn.Dense(2)])
        >>> variables = module.init(jax.random.key(0), jax.numpy.ones((1, 4)))
        >>> teacher = intermediates(module, ["layers_0"])
        >>> {name: x.shape for name, x in teacher(variables, jax.numpy.ones((5, 4))).items()}
        {'logits': (5, 2), 'layers_0': (5, 3)}
    """
    wanted = list(paths)

    def teacher(variables: PyTree, images: Batch) -> dict[str, jax.Array]:
        inputs = images if preprocess is None else preprocess(images)
        if not wanted:
            return {LOGITS: module.apply(variables, inputs, **arguments)}
        logits, state = module.apply(
            variables, inputs, capture_intermediates=True, mutable=["intermediates"], **arguments
        )
        outputs = _last_calls(state["intermediates"])
        unknown = sorted(path for path in wanted if path not in outputs)
        if unknown:
            raise ValueError(
                f"feature maps are named by submodules, but there is no {unknown}; take from "
                f"{sorted(outputs)}"
            )
        return {LOGITS: logits, **{path: outputs[path] for path in wanted}}

    return teacher


def _last_calls(captured: Any) -> dict[str, jax.Array]:
    """Return what each submodule's last call returned, where it returned one array."""
    outputs = {}
    for path, leaf in flatten_with_paths(captured)[0].items():
        name, call, *rest = path.rpartition("__call__/")
        if name and call and rest[0].isdigit():
            outputs[name.rstrip("/")] = leaf
    return outputs
