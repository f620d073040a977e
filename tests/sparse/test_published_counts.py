"""The arithmetic of SlimNets (arXiv:1808.00496), sections 4 and 5."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import jaxcompress as jc
from jaxcompress import models, sparse
from jaxcompress.paths import flatten_with_paths

RANKS = (5, 24, 48, 48, 64, 128, 128, 160, 192, 256, 320, 320, 320, 320, 320, 320)
CIFAR = (1, 32, 32, 3)


def shapes_of(name: str) -> tuple[Any, Any]:
    module = models.build(name)
    draw = lambda: models.initialize(module, jax.random.key(0), CIFAR)  # noqa: E731
    return models.evaluation_function(module), jax.eval_shape(draw)


def test_85_times_fewer_parameters() -> None:
    total = {
        name: sum(x.size for x in jax.tree.leaves(shapes_of(name)[1])) for name in ("vgg19", "nin")
    }
    assert total == {"vgg19": 20_554_826, "nin": 966_986}
    assert round(total["vgg19"] / (total["nin"] * 0.25), 2) == 85.03


def test_a_pruned_nin_has_the_parameters_that_masks_count() -> None:
    _, shapes = shapes_of("nin")
    leaves = flatten_with_paths(shapes)[0]
    kernels = {p: leaf.shape for p, leaf in leaves.items() if leaf.ndim > 1}
    biases = sum(leaf.size for leaf in leaves.values() if leaf.ndim == 1)
    kept = sparse.kept_counts(kernels, 0.75, "uniform", jc.sparse.Block())
    # The paper divides by four; biases, which it leaves dense as well, make it a little less.
    assert biases == 1_418 and sum(kept) == (966_986 - 1_418) / 4 == 241_392
    assert round(20_554_826 / (sum(kept) + biases), 2) == 84.65


def test_the_low_rank_vgg_has_the_published_parameters() -> None:
    apply_vgg, shapes = shapes_of("vgg19_bn")
    graph = jc.trace(apply_vgg, shapes, jax.ShapeDtypeStruct(CIFAR, jnp.float32))
    convolutions = [path for path in graph.sites if len(graph.leaves[path].shape) == 4]
    ranks = dict(zip(convolutions, RANKS, strict=True))
    lowrank = jc.factorize(graph, ranks, {path: "spatial" for path in convolutions})
    small = lowrank.variables(shapes)
    params = sum(leaf.size for leaf in jax.tree.leaves(small["params"]))
    # Theirs also counts a bias, always zero, for each of the vertical filters.
    assert params + sum(RANKS) == 8_464_404
    assert round(20_554_826 / 8_464_404, 3) == 2.428
