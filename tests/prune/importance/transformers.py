"""Small transformers of every form that scores are tried on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeAlias

import jax.numpy as jnp
from flax import linen as nn

import jaxcompress as jc
from jaxcompress import models
from jaxcompress.annotations import Function, PyTree
from tests.toys.record import initial, rows

__all__ = ["ENCODER", "INPUTS", "NETWORKS", "Network", "encoder", "traced"]

Network: TypeAlias = tuple[Function, PyTree, PyTree]

INPUTS = {
    "tokens": jnp.array([[1, 2, 3, 0], [4, 5, 6, 7]]),
    "mask": jnp.array([[1, 1, 1, 0], [1, 1, 1, 1]]),
}
SIZES: dict[str, Any] = {"vocabulary": 11, "width": 8, "depth": 2, "heads": 2}
ENCODER = models.Encoder(**SIZES, mlp_width=12, positions=4, num_classes=3)


def _network(module: nn.Module, inputs: PyTree) -> Network:
    def apply(variables: PyTree, inputs: PyTree) -> Any:
        return module.apply(variables, inputs, train=False)

    return apply, initial(module, inputs, train=False), inputs


def encoder(scan: bool = False) -> Network:
    """Return an encoder with logits."""
    return _network(ENCODER.clone(scan=scan), INPUTS)


def _decoder(scan: bool) -> Network:
    sizes = {**SIZES, "heads": 4, "kv_heads": 2, "mlp_width": 12}
    return _network(models.Decoder(**sizes, scan=scan), INPUTS)


def _gpt2(scan: bool) -> Network:
    return _network(models.GPT2(**SIZES, positions=4, scan=scan), INPUTS)


def _vit() -> Network:
    module = models.VisionTransformer(width=8, depth=2, heads=2, mlp_ratio=1.5, patch_size=4)
    return _network(module, rows(2, 8, 8, 3))


NETWORKS: dict[str, Callable[[], Network]] = {
    "encoder": encoder,
    "encoder, scanned": partial(encoder, scan=True),
    "decoder": partial(_decoder, False),
    "decoder, scanned": partial(_decoder, True),
    "GPT-2": partial(_gpt2, False),
    "GPT-2, scanned": partial(_gpt2, True),
    "ViT": _vit,
}


@cache
def traced(name: str) -> tuple[Function, PyTree, PyTree, jc.Graph]:
    """Return a network and its graph."""
    network = NETWORKS[name]()
    return *network, jc.trace(*network)
