"""Scores of depth: how far a layer, or a residual branch, turns what it is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.compiled import jit_of
from jaxcompress.compression.precision import namespace
from jaxcompress.graph import Graph
from jaxcompress.per_device import AxisName
from jaxcompress.prune.importance.observed import Counted, mean_over_examples
from jaxcompress.prune.importance.turning import mean_turns
from jaxcompress.prune.scores import Scores

__all__ = ["block_influence", "without_least"]


def block_influence(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    batches: Iterable[Batch],
    *,
    counted: Counted | None = None,
    axis_name: AxisName = None,
) -> Scores:
    """Score layers and residual branches by how far they turn the stream, without labels.

    s_l = 1 - mean over examples and positions of cos(x_l, y_l). For a layer l of a scan over
    stacked layers, x is its carry and y what it hands on. For a branch that may go as a whole
    (`graph.optional`) outside of scans, y is the sum by which the stream goes on, x the same
    without the branch. The angle is along the stream's channels.

    Source: Men et al. 2024, "ShortGPT: Layers in Large Language Models are More Redundant Than You
    Expect" (arXiv:2403.03853), eq. 1, there for whole layers. Branches are ours; what is added to
    a branch last (a bias) turns the stream with it here, but stays when its channels go.

    Args:
        graph: of a function of the variables.
        apply: `(variables, inputs) -> outputs` in evaluation mode; another one than was traced
            will do.
        variables: pytree of arrays; angles are computed in float32.
        batches: an iterable of inputs `[examples, ...]`, read once. One program is compiled for
            each shape of them, and only the sums are kept.
        counted: `counted(inputs) -> [examples, positions]`, 0 for padding, which is left out.
        axis_name: of the surrounding `jax.shard_map` or `jax.pmap`, over which each batch is split;
            see `jaxcompress.per_device`.

    Returns:
        `{group: float[width]}` of numbers in [0, 2], comparable: the layers of a depth group, each
        its own; of a branch, every channel its influence, so that `select(..., min_width=0)`
        removes the least one first, the last one in part. `without_least` removes whole ones.
        Of several such groups in a branch only the one that saves most FLOPs is scored (of
        attention, the heads). Groups that are neither are left out: `select` keeps them whole.

    Raises:
        ValueError: if there is no batch, variables or influences are not finite (the groups are
            named), or the graph has no layer or branch that may go.
        TypeError: if batches is a mapping: one batch.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> def apply(variables, x):
        ...     stream = x @ variables["in"]
        ...     stream = stream + jnp.abs(stream @ variables["up"]) @ variables["down"]
        ...     return stream @ variables["out"]
        >>> variables = {"in": jnp.eye(2), "up": jnp.diag(jnp.array([1.0, 0.0]))}
        >>> variables |= {"down": jnp.eye(2)[::-1], "out": jnp.ones((2, 1))}
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
        >>> influence = block_influence(trace(apply, variables, x), apply, variables, [x])
        >>> {name: f"{score[0]:.3f}" for name, score in influence.items()}
        {'up[1]': '0.146'}
    """
    functions = (graph, apply, *([] if counted is None else [counted]))
    compiled = jit_of(mean_turns, *functions, axis_name=axis_name)
    means = mean_over_examples(compiled, graph, variables, batches, "block influences")
    if not means:
        raise ValueError(
            "layers of a scan and branches that are added to a stream have an influence, but this "
            f"function has none that may go: graph.optional is {graph.optional}"
        )
    scores = {
        name: namespace(means[name]).broadcast_to(means[name], group.width).astype(np.float32)
        for name, group in graph.groups.items()
        if name in means
    }
    return Scores(scores, "block influence", "comparable")


def without_least(
    graph: Graph, influence: Mapping[str, Array], count: int
) -> dict[str, np.ndarray]:
    """Return the keep that lacks the layers and branches of the least influence.

    Args:
        graph: of the network.
        influence: of `block_influence`.
        count: how many go; a layer of a scan and a branch are one each.

    Returns:
        `{group: bool[width]}` for `shrink`, of all groups that are scored.

    Raises:
        ValueError: if fewer may go.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> def apply(variables, x):
        ...     for up, down in (("a", "b"), ("c", "d")):
        ...         x = x + jnp.tanh(x @ variables[up]) @ variables[down]
        ...     return x
        >>> variables = {name: jnp.ones((3, 3)) for name in "abcd"}
        >>> graph = trace(apply, variables, jnp.ones((1, 3)))
        >>> keep = without_least(graph, {"a[1]": np.full(3, 0.2), "c[1]": np.full(3, 0.1)}, 1)
        >>> {name: mask.tolist() for name, mask in keep.items()}
        {'a[1]': [True, True, True], 'c[1]': [False, False, False]}
    """
    require(count=integer(count, least=0))
    keep = {name: np.ones(graph.groups[name].width, bool) for name in influence}
    parts: list[tuple[float, str, Any]] = []
    for name, score in influence.items():
        if graph.groups[name].is_depth:
            parts += [(float(one), name, layer) for layer, one in enumerate(score)]
        else:
            parts.append((float(np.mean(score)), name, slice(None)))
    if count > len(parts):
        raise ValueError(f"no more may go than there are, but {count=} of {len(parts)}")
    for _, name, part in sorted(parts, key=lambda one: one[0])[:count]:
        keep[name][part] = False
    return keep
