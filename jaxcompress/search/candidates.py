"""Many candidate networks at once: one program, one compile, one shared set of variables.

Candidates differ in their gates alone. `evaluate_candidates` vmaps the loss over them, in chunks
that fit the memory and split over devices; `local_search` perturbs the best and keeps what is
better, every candidate at the same budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from jaxcompress.graph import Graph
from jaxcompress.importance.checks import check_scalar
from jaxcompress.search.budget import Budget
from jaxcompress.search.select import threshold
from jaxcompress.transforms import gated
from jaxcompress.transforms.check import check_groups, check_widths

__all__ = ["Found", "candidate_losses", "chunk_size", "local_search"]

CPU_MEMORY = 2**26
"""On few cores a large vmap gains nothing and leaves the caches: 64 MiB."""


def candidate_losses(
    graph: Graph,
    loss: Callable[[Any, Any], jax.Array],
    variables: Any,
    gates: Mapping[str, Any],
    batch: Any,
    *,
    together: int | None = None,
    mesh: Mesh | None = None,
) -> jax.Array:
    """Return the loss of every candidate on one batch.

    Under jit this is one program: a vmap over `together` candidates, which share the kernels, in a
    loop over chunks, and with a mesh that on each device for its part of the candidates.

    Args:
        graph: of a function of the variables.
        loss: `loss(variables, batch) -> scalar`; with BatchNorm in training mode every candidate
            is normalised by its own statistics.
        variables: pytree of arrays.
        gates: `{group: float[candidates, width]}`; may be traced.
        batch: pytree of arrays, the same for all.
        together: candidates per vmap, default `chunk_size`.
        mesh: devices to split the candidates over.

    Returns:
        `float[candidates]`.

    Raises:
        ValueError: if a group is unknown, a shape wrong, or the loss no scalar.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: jnp.tanh(x @ variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(apply, variables, jnp.ones((5, 3)))
        >>> loss = lambda variables, x: apply(variables, x).mean()
        >>> gates = {"a[1]": jnp.array([[1.0, 1, 1, 1], [1, 1, 0, 0]])}
        >>> losses = candidate_losses(graph, loss, variables, gates, jnp.ones((5, 3)))
        >>> round(float(losses[0] / losses[1]), 5)
        2.0
    """
    count = _check(graph, gates)
    check_scalar(loss, variables, batch)
    devices = 1 if mesh is None else mesh.size
    own = math.ceil(count / devices)
    if together is None:
        together = chunk_size(loss, variables, batch)
    together = max(1, min(together, own))
    padded = devices * together * math.ceil(own / together)
    full = jax.tree.map(lambda g: _pad(jnp.asarray(g), padded), dict(gates))
    gated_loss = gated(graph, loss)

    def part(variables: Any, gates: Any, batch: Any) -> jax.Array:
        one = lambda own: gated_loss(variables, own, batch)  # noqa: E731
        # Without a vmap of one, the loop's convolutions keep their plain layout.
        return lax.map(one, gates, batch_size=together if together > 1 else None)

    if mesh is not None:
        whole, split = PartitionSpec(), PartitionSpec(mesh.axis_names[0])
        part = jax.shard_map(
            part, mesh=mesh, in_specs=(whole, split, whole), out_specs=split, check_vma=False
        )
    return jax.jit(part)(variables, full, batch)[:count]


def chunk_size(
    loss: Callable[[Any, Any], Any], variables: Any, batch: Any, memory: int | None = None
) -> int:
    """Estimate how many candidates fit into memory together.

    Evaluation holds few arrays at a time: an operation's input, output, and workspace. Four times
    the largest intermediate array of the loss is allowed for each candidate.

    Args:
        loss: `loss(variables, batch)`.
        variables: pytree of arrays or `jax.ShapeDtypeStruct`.
        batch: likewise.
        memory: bytes; default a half of what the first device says is free, or 64 MiB where it
            does not say (CPU).

    Example:
        >>> loss = lambda variables, x: (x @ variables).sum()
        >>> chunk_size(loss, jnp.ones((4, 256)), jnp.ones((10, 4)), memory=100_000)
        2
    """
    jaxpr = jax.make_jaxpr(loss)(variables, batch)
    largest = max(_sizes(jaxpr.jaxpr), default=1)
    available = _free_memory() if memory is None else memory
    return max(1, int(available // (4 * largest)))


def _sizes(jaxpr: Any) -> list[int]:
    """Return the bytes of every intermediate array, inner programs included."""
    found = []
    for equation in jaxpr.eqns:
        avals = [variable.aval for variable in equation.outvars]
        found += [a.size * a.dtype.itemsize for a in avals if hasattr(a, "dtype")]
        for parameter in jax.tree.leaves(equation.params, is_leaf=_is_program):
            if _is_program(parameter):
                found += _sizes(getattr(parameter, "jaxpr", parameter))
    return found


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns")


def _free_memory() -> int:
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in statistics:
        return CPU_MEMORY
    return (statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)) // 2


def _pad(gates: jax.Array, count: int) -> jax.Array:
    return jnp.concatenate([gates, jnp.repeat(gates[-1:], count - len(gates), axis=0)])


def _check(graph: Graph, gates: Mapping[str, Any]) -> int:
    check_groups(graph, gates, "candidates")
    shapes = {name: np.shape(gate) for name, gate in gates.items()}
    counts = {shape[0] if len(shape) == 2 else None for shape in shapes.values()}
    if len(counts) != 1 or not all(counts):
        raise ValueError(
            "gates of candidates are [candidates, width], with one number of candidates for all "
            f"groups, but have shapes {shapes}; stack one gate tree per candidate"
        )
    check_widths(graph, {name: gate[0] for name, gate in gates.items()}, "candidates", False)
    return int(counts.pop() or 0)


class Found(NamedTuple):
    """What `local_search` returns.

    Attributes:
        scores: `{group: float[width]}` of the best candidate, for `select` at the same budget.
        loss: the query loss of the best after each round, `float[rounds + 1]`; the first is that
            of the scores given.
    """

    scores: dict[str, jax.Array]
    loss: jax.Array


def local_search(
    graph: Graph,
    loss: Callable[[Any, Any], jax.Array],
    variables: Any,
    scores: Mapping[str, Any],
    budget: Budget,
    batch: Any,
    key: jax.Array,
    *,
    candidates: int = 64,
    rounds: int = 10,
    survivors: int = 4,
    group_noise: float = 0.3,
    channel_noise: float = 0.1,
    together: int | None = None,
    mesh: Mesh | None = None,
) -> Found:
    """Perturb the best scores, mask every candidate to the same budget, keep the best by loss.

    Each round draws s' = s + group_noise * n_group + channel_noise * n_channel, n normal, around
    the survivors in turn; these are the best of all seen. Noise counts in units of s, so scores
    should be logarithms, as those of `learn` are. All rounds are one program.

    Args:
        graph: of a function of the variables.
        loss: `loss(variables, batch) -> scalar`; where there is BatchNorm, in training mode.
        variables: pytree of arrays.
        scores: `{group: float[width]}`, where to start.
        budget: fractions are of `graph`.
        batch: the query batch, one for all rounds, so that losses compare.
        key: of the noise.
        candidates: per round.
        rounds: how many.
        survivors: how many of the best to perturb.
        group_noise: standard deviation of a shift of all channels of a group.
        channel_noise: standard deviation for each channel alone.
        together: see `candidate_losses`.
        mesh: see `candidate_losses`.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: x @ jnp.tanh(variables["a"]) @ variables["b"]
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.arange(8.0).reshape(4, 2)}
        >>> graph = trace(apply, variables, jnp.ones((5, 3)))
        >>> loss = lambda variables, x: apply(variables, x).mean()
        >>> found = local_search(
        ...     graph,
        ...     loss,
        ...     variables,
        ...     {"a[1]": jnp.arange(4.0)},
        ...     Budget(flops=0.5),
        ...     jnp.ones((5, 3)),
        ...     jax.random.key(0),
        ...     candidates=8,
        ...     rounds=3,
        ...     channel_noise=2.0,
        ... )
        >>> bool(found.loss[-1] < found.loss[0])
        True
    """
    absolute = budget.of(graph)
    check_widths(graph, scores, "scores", per_example=False)

    def losses(variables: Any, batch: Any, stacked: dict[str, jax.Array]) -> jax.Array:
        gates = jax.vmap(lambda own: threshold(graph.cost, own, absolute))(stacked)
        found = candidate_losses(graph, loss, variables, gates, batch, together=together, mesh=mesh)
        return jnp.where(jnp.isnan(found), jnp.inf, found)

    def step(data: tuple[Any, Any], state: tuple[Any, Any], key: jax.Array) -> tuple[Any, Any]:
        parents, best = state
        chosen = {name: own[jnp.arange(candidates) % survivors] for name, own in parents.items()}
        new = _perturb(chosen, key, group_noise, channel_noise)
        every = {name: jnp.concatenate([parents[name], own]) for name, own in new.items()}
        values = jnp.concatenate([best, losses(*data, new)])
        order = jnp.argsort(values, stable=True)[:survivors]
        return (jax.tree.map(lambda own: own[order], every), values[order]), values[order[0]]

    @jax.jit
    def run(data: tuple[Any, Any], scores: Mapping[str, Any], key: jax.Array) -> Found:
        start = {n: jnp.asarray(s, jnp.result_type(float))[None] for n, s in scores.items()}
        first = losses(*data, start)
        copies = jax.tree.map(lambda own: jnp.repeat(own, survivors, axis=0), start)
        state = (copies, jnp.repeat(first, survivors))
        (parents, _), best = lax.scan(partial(step, data), state, jax.random.split(key, rounds))
        return Found({n: own[0] for n, own in parents.items()}, jnp.concatenate([first, best]))

    return run((variables, batch), dict(scores), key)


def _perturb(
    scores: Mapping[str, jax.Array], key: jax.Array, group: float, channel: float
) -> dict[str, jax.Array]:
    """Add noise to `{group: float[candidates, width]}`."""
    found = {}
    for number, (name, own) in enumerate(scores.items()):
        first, second = jax.random.split(jax.random.fold_in(key, number))
        shift = group * jax.random.normal(first, (len(own), 1))
        found[name] = own + shift + channel * jax.random.normal(second, own.shape)
    return found
