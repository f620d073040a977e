"""Networks with a stream that can be turned: shipped ones of every kind, and one by hand."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcompress as jc
from benchmarks.decoder import _norm
from jaxcompress import models
from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.prune import Rotated
from tests.models.transformers import INPUTS, KINDS, drawn
from tests.toys.record import draw

__all__ = ["Turned", "by_hand", "llama", "turned"]

IMAGES = jax.random.normal(jax.random.key(1), (3, 8, 8, 3))
VIT = models.VisionTransformer(width=12, depth=1, heads=3, patch_size=4)
MODULES: dict[str, Any] = {
    **{kind: KINDS[kind].clone(depth=1) for kind in ("decoder", "gpt2")},
    **{kind: KINDS[kind] for kind in ("decoder_scanned", "gpt2_scanned", "encoder_scanned")},
    "vit": VIT.clone(class_token=True),
}
LLAMA = {"embed": (11, 12), "in": (12, 8), "out": (8, 12), "norm1": (12,), "norm": (12,)}


class Turned(NamedTuple):
    """A network before and after its stream was turned."""

    apply: Function
    variables: PyTree
    inputs: Array
    rotated: Rotated
    function: Function
    small: PyTree


def llama(variables: PyTree, inputs: PyTree) -> Array:
    """Read the embedding twice: as a table, and as the kernel of the logits."""
    hidden = variables["embed"][inputs["tokens"]]
    read = _norm(hidden, variables["norm1"])
    hidden = hidden + jax.nn.silu(read @ variables["in"]) @ variables["out"]
    return _norm(hidden, variables["norm"]) @ variables["embed"].T


def by_hand(variables: PyTree, x: Array) -> Array:
    """Two layers behind RMSNorm without a scale."""
    stream = x @ variables["in"]
    for up, down in (("up1", "down1"), ("up2", "down2")):
        read = stream * jax.lax.rsqrt(jnp.mean(stream**2, -1, keepdims=True))
        stream = stream + jnp.tanh(read @ variables[up]) @ variables[down]
    return stream @ variables["out"]


@functools.cache
def turned(kind: str, dtype: str | None = None) -> Turned:
    """Turn the stream of a network once."""
    inputs: Any = IMAGES if "vit" in kind else INPUTS
    apply: Function = llama
    if kind == "llama":
        variables = draw(3, LLAMA)
    else:
        module = MODULES[kind].clone(dtype=dtype)
        start = functools.partial(models.initialize, module, jax.random.key(0), inputs)
        variables = drawn(jax.eval_shape(start))
        apply = models.evaluation_function(module)
    if dtype is not None:
        variables = jax.tree.map(lambda leaf: leaf.astype(dtype), variables)
    weights = None if "vit" in kind else lambda batch: np.asarray(batch["mask"])
    graph = jc.trace(apply, variables, inputs)
    rotated = jc.rotate(graph, apply, variables, [inputs], weights=weights)
    function, small = rotated.compression.function(apply), rotated.compression.variables(variables)
    return Turned(apply, variables, inputs, rotated, function, small)
