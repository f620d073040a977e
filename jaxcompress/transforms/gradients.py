"""How far a function's outputs move for an error at each of its sites, by one gradient.

To first order an error dy of a site's output moves the outputs z by (dz/dy) dy. If all channels and
positions err alike and independently of the gradients, E|dz|^2 = d E|dy|^2 with E|dy|^2 the squared
error of one position and d the sum over positions of the mean squared gradient of its channels. A
random vector of signs, E[u u^T] = I, turns the Jacobian into one gradient per example.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.graph import Graph
from jaxcompress.graph.internals import bind
from jaxcompress.graph.interpret import Node
from jaxcompress.transforms.check import check_sites
from jaxcompress.transforms.observe import observe

__all__ = ["output_sensitivities"]


def output_sensitivities(
    graph: Graph,
    apply: Callable[..., Any],
    variables: Any,
    batches: Iterable[Any],
    paths: Collection[str],
    key: jax.Array,
) -> dict[str, float]:
    """Return d of each site: E|dz|^2 = d E|dy|^2, a mean over examples.

    Uses of a shared kernel add up. BatchNorm in evaluation mode.

    Args:
        graph: of the network, for the sites.
        apply: `(variables, inputs) -> z [examples, ...]`, the network or a function of its outputs.
        variables: its variables.
        batches: inputs of one shape, with the examples in front.
        paths: of the kernels of the sites.
        key: of the random signs.

    Raises:
        ValueError: if a site does not exist, there is no batch, or a branch, a `while` loop or a
            reversed scan holds a site.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: (x @ variables["a"]) * jnp.array([3.0, 1.0])
        >>> variables, x = {"a": jnp.ones((2, 2))}, jnp.ones((4, 2))
        >>> graph = trace(apply, variables, x)
        >>> output_sensitivities(graph, apply, variables, [x], ["a"], jax.random.key(0))
        {'a': 5.0}
    """
    check_sites(graph, dict.fromkeys(paths))
    squares = jax.jit(lambda own, inputs, key: _squares(apply, own, inputs, paths, key))
    total: dict[str, float] = dict.fromkeys(paths, 0.0)
    count = 0
    for number, inputs in enumerate(batches):
        found = squares(variables, inputs, jax.random.fold_in(key, number))
        total = {path: value + float(found[path]) for path, value in total.items()}
        count += 1
    if not count:
        raise ValueError("a sensitivity needs data, but there is no batch; pass at least one")
    return {path: value / count / _channels(graph, path) for path, value in total.items()}


def _channels(graph: Graph, path: str) -> int:
    form = graph.sites[path].forms[-1]
    return form.columns * form.groups


def _squares(
    apply: Callable[..., Any], variables: Any, inputs: Any, paths: Collection[str], key: jax.Array
) -> dict[str, Any]:
    """Return the squared gradients of one batch: means over examples of sums over all else."""
    shapes = jax.eval_shape(lambda: _run(apply, variables, inputs, paths, None)[1])
    zeros = jax.tree.map(lambda own: jnp.zeros(own.shape, own.dtype), shapes)

    def projected(errors: Any) -> jax.Array:
        (outputs,), _ = _run(apply, variables, inputs, paths, errors)
        signs = jax.random.rademacher(key, outputs.shape, outputs.dtype)
        return (signs * outputs).sum()

    gradients = jax.grad(projected)(zeros)
    examples = jax.tree.leaves(inputs)[0].shape[0]
    return {
        path: sum((array.astype(jnp.float32) ** 2).sum() for array in own) / examples
        for path, own in gradients.items()
    }


def _run(
    apply: Callable[..., Any], variables: Any, inputs: Any, paths: Collection[str], errors: Any
) -> tuple[list[Any], dict[str, list[Any]]]:
    """Run the function with errors added to the sites' outputs; return these outputs too."""
    seen: dict[str, list[Any]] = {path: [] for path in paths}

    def look(path: str, node: Node, arrays: Sequence[Any], position: int) -> Any:
        del position
        (output,) = bind(node.equation, arrays)
        number = len(seen[path])
        seen[path].append(output)
        return output if errors is None else output + errors[path][number]

    return observe(apply, variables, inputs, paths, look), seen
