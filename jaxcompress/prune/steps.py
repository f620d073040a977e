"""How many channels one step of a width is, so that axes in memory are multiples of a number."""

from __future__ import annotations

import math
from collections.abc import Iterator

from jaxcompress.arguments import integer, require
from jaxcompress.graph import Graph, Group, Member

__all__ = ["channel_steps"]


def channel_steps(graph: Graph, multiple_of: int) -> dict[str, int]:
    """Return `{group: channels}`, the steps whose entries along kernels are multiples.

    step = m / gcd(m, k) with k the entries of one channel along a kernel: 1 for most; 16 for a head
    of 16 lanes, four for a norm group of four. `multiple_of=8` then steps by 8 channels, 1 head, 2
    norm groups. Steps of a scan over layers are no entries of a matrix: they count one by one.

    Args:
        graph: whose groups are meant.
        multiple_of: m, of the widths in memory.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> heads = lambda v, x: jnp.einsum("bi,ihl->bhl", x, v["a"])
        >>> apply = lambda v, x: jnp.einsum("bhl,hlo->bo", heads(v, x), v["b"])
        >>> variables = {"a": jnp.ones((8, 6, 4)), "b": jnp.ones((6, 4, 2))}
        >>> channel_steps(trace(apply, variables, jnp.ones((1, 8))), multiple_of=8)
        {'a[1]': 2, 'a[2]': 8}
    """
    require(multiple_of=integer(multiple_of))
    return {name: _step(graph, group, multiple_of) for name, group in graph.groups.items()}


def _step(graph: Graph, group: Group, multiple_of: int) -> int:
    if group.is_depth:
        return 1
    # Of all kernels the greatest common divisor: a step s is good for k entries where m divides
    # s k, that is where m / gcd(m, k) divides s, and the least common multiple of these over all k
    # is m / gcd(m, k_1, k_2, ...). Biases and scales have the entries of a kernel's axis.
    return multiple_of // math.gcd(multiple_of, *_entries(graph, group))


def _entries(graph: Graph, group: Group) -> Iterator[int]:
    """Yield how many entries of each kernel's rows or columns one channel has."""
    kernels = [member for member in group.members if member.role != "other"]
    for member in kernels or group.members:
        yield member.indices.shape[1] * _inside(graph, member)


def _inside(graph: Graph, member: Member) -> int:
    """Return the entries of the axes inside a dot kernel's axis: the lanes of a head.

    Axes that a dot sums over are one axis of the matrix it multiplies, and so are those it leaves.
    Outer axes count inner ones, never the reverse, so that steps also hold together: where lanes go
    as well, their number stays a multiple or whole.
    """
    site = graph.sites.get(member.path)
    if site is None or site.primitive != "dot_general" or site.steps:
        return 1
    sides = (site.layout["contracted"], site.layout["free"])
    side = next((axes for axes in sides if member.axis in axes), ())
    return math.prod(site.shape[axis] for axis in side if axis > member.axis)
