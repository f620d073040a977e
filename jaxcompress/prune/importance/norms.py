"""Scores from weights alone: norms of a channel's kernel slices, and a random baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.compiled import jit_of
from jaxcompress.compression.precision import widened
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph, Group
from jaxcompress.paths import flatten_with_paths
from jaxcompress.prune.scores import Scores

__all__ = ["magnitude", "random"]


def magnitude(graph: Graph, variables: PyTree, *, order: int = 2, coupled: bool = False) -> Scores:
    """Score a channel by the norm of the kernel slices that produce it.

    s_c = (sum over producer kernels, sum over entries w of channel c, |w|^order)^(1/order)

    Depthwise kernels, which pass channels on, are summed over too; half precision is summed in
    float32.

    Args:
        graph: of a function of the variables.
        variables: pytree of arrays.
        order: 1 for L1, 2 for L2.
        coupled: also sum over the kernels that consume the channel, as DepGraph does (Fang et
            al. 2023, "DepGraph: Towards Any Structural Pruning", eq. 5, there for order 2).

    Returns:
        `{group: float[width]}`, raw norms: `select` divides them by the mean of each group.

    Raises:
        ValueError: if a leaf holds NaN or infinity; all are named.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.array([[3.0, 0.0], [4.0, 1.0]]), "b": jnp.ones((2, 5))}
        >>> graph = trace(apply, variables, jnp.ones((1, 2)))
        >>> magnitude(graph, variables)["a[1]"].tolist()
        [5.0, 1.0]
    """
    require(order=integer(order, least=1, most=2))
    require_finite("variables", variables, "train or load them again")
    leaves, _ = flatten_with_paths(variables)
    wrong = [
        f"{path}: {None if path not in leaves else jnp.shape(leaves[path])}, not {aval.shape}"
        for path, aval in graph.leaves.items()
        if path not in leaves or jnp.shape(leaves[path]) != tuple(aval.shape)
    ]
    if wrong:
        raise ValueError(
            f"variables have the shapes that the graph was traced with, but {'; '.join(wrong)}; "
            "trace the function of these variables"
        )
    paths = {member.path for group in graph.groups.values() for member in group.members}
    scores = jit_of(_norms, graph, order=order, coupled=coupled)({p: leaves[p] for p in paths})
    return Scores({name: scores[name] for name in graph.groups}, "magnitude", "raw norm")


def _norms(graph: Graph, order: int, coupled: bool) -> Callable[..., dict[str, jax.Array]]:
    """Make the norms of every group's channels, of the leaves by path."""
    return lambda leaves: {
        name: _norm(group, leaves, order, coupled) for name, group in graph.groups.items()
    }


def _norm(group: Group, leaves: Mapping[str, Array], order: int, coupled: bool) -> jax.Array:
    roles = ("producer", "passing", *(("consumer",) if coupled else ()))
    members = [member for member in group.members if member.role in roles]
    members = members or [m for m in group.members if m.role != "consumer"]
    kernels = {m.path: jnp.abs(widened(leaves[m.path])) for m in members or group.members}
    unit, total = _unit(kernels.values()), jnp.zeros(group.width)
    for member in members or group.members:
        leaf = jnp.moveaxis(kernels[member.path] / unit, member.axis, 0) ** order
        sums = leaf.reshape(leaf.shape[0], -1).sum(axis=1)
        total += sums[member.indices].sum(axis=1)
    return total ** (1 / order) * unit


def _unit(sizes: Iterable[jax.Array]) -> jax.Array:
    """Return a power of two in which powers of the sizes neither overflow nor vanish; mostly 1."""
    largest = jnp.stack([size.max(initial=0.0) for size in sizes]).max()
    is_usual = (largest < 2.0**40) & (largest > 2.0**-40) | (largest == 0)
    return jnp.where(is_usual, 1.0, jnp.exp2(jnp.floor(jnp.log2(largest))))


def random(graph: Graph, key: jax.Array) -> Scores:
    """Score channels at random, uniformly in [0, 1): the baseline of every comparison.

    Example:
        >>> from jaxcompress.graph import trace
        >>> graph = trace(lambda v, x: x * v["a"], {"a": jnp.ones(3)}, jnp.ones((2, 3)))
        >>> random(graph, jax.random.key(0))
        Scores(random, 0 groups, comparable)
    """
    keys = jax.random.split(key, max(len(graph.groups), 1))
    drawn = {
        name: jax.random.uniform(keys[number], (group.width,))
        for number, (name, group) in enumerate(graph.groups.items())
    }
    return Scores(drawn, "random")
