"""`Toy`: one tiny network that the laws are checked on, and how its arrays are drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["BRANCHED", "Toy", "draw", "initial", "randomised", "rows"]

# Known before any is traced, so that collecting tests traces nothing.
BRANCHED = frozenset(
    """
    residual_a residual_b concatenation squeeze_excite channel_shuffle vision_transformer
    fused_attention multi_query embedding gated_linear_unit scanned recurrent
    transformer_training unknown_primitives layer_norm layer_norm_one_pass channel_softmax
    scanned_decoder scanned_layers scanned_nest constant_selection watched
    recomputed_attention residual_inside
    """.split()
)
"""Toys with groups that may go as a whole; a law checks that it is these."""


@dataclass(frozen=True, eq=False)
class Toy:
    """One network and what its groups should be.

    Attributes:
        apply: evaluation, `apply(variables, *inputs)`.
        variables: every array, BatchNorm statistics and biases randomised.
        inputs: example inputs.
        groups: the expected width of every group.
        train_apply: training, `(variables, *inputs) -> (output, new state)`; None if alike.
        tolerance: of outputs and gradients, relative to the largest entry.
        frozen: words that a reason in `graph.frozen` must hold.
        symmetric: whether channels may change places (law 7): not where a constant holds one
            entry per channel.
        independent: whether each example's output is its own (law 6).
        differentiable: whether it has a reverse derivative.
        shared: groups with a contraction that no example axis reaches: no gates per example.
        ungraded: groups whose gates have no gradient: a derivative rule sums over them.
        gateable: the groups that `gate` must accept; None where nothing is claimed.
    """

    apply: Callable[..., Any]
    variables: Any
    inputs: tuple[Any, ...]
    groups: Mapping[str, int]
    train_apply: Callable[..., Any] | None = None
    tolerance: float = 1e-5
    frozen: str = ""
    symmetric: bool = True
    independent: bool = True
    differentiable: bool = True
    shared: tuple[str, ...] = ()
    ungraded: tuple[str, ...] = ()
    gateable: tuple[str, ...] | None = None

    def function(self, train: bool = False) -> Callable[..., Any]:
        """Return the function of a mode: evaluation's where both are alike."""
        return self.train_apply if train and self.train_apply is not None else self.apply


def draw(seed: int, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """Draw `{name: array}` of shapes."""
    return randomised({n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()}, seed)


def randomised(shapes: Any, seed: int = 1) -> Any:
    """Draw arrays of the shapes of a tree, by NumPy so that nothing is compiled.

    Kernels are scaled so that activations stay near 1; no bias is 0, no scale 1, and variances
    are positive.
    """
    generator = np.random.default_rng(seed)

    def array(path: Any, leaf: Any) -> Any:
        name, noise = jax.tree_util.keystr(path), generator.normal(size=leaf.shape)
        if "var" in name:
            noise = np.exp(noise / 2)
        elif "scale" in name:
            noise = 1 + noise / 2
        elif len(leaf.shape) > 1:
            noise = noise / np.sqrt(np.prod(leaf.shape[:-1]))
        return jax.device_put(noise.astype(leaf.dtype))

    return jax.tree_util.tree_map_with_path(array, shapes)


def initial(module: Any, *inputs: Any, **options: Any) -> Any:
    """Draw the variables of a Linen module."""
    init = functools.partial(module.init, **options)
    return randomised(jax.eval_shape(init, jax.random.key(0), *inputs))


def rows(*shape: int, seed: int = 0) -> jax.Array:
    """Draw example inputs."""
    return jax.device_put(np.random.default_rng(seed).normal(size=shape).astype(np.float32))
