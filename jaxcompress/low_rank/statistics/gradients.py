"""How far a function's outputs move for an error at each of its sites, by one gradient.

To first order an error dy of a site's output moves the outputs z by (dz/dy) dy. If positions err
independently of each other and of the gradients, E|dz|^2 = tr(E[dy dy^T] G), with G the sum over
positions of the mean of g g^T, g the gradient of a random projection u^T z: for a vector of random
signs, E[u u^T] = I, this turns the Jacobian into one gradient per example. It is the second factor
of K-FAC (Martens and Grosse 2015, arXiv:1503.05671); `input_covariances` has the first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Batch, Function, PyTree
from jaxcompress.arguments import real, require
from jaxcompress.backend import compiled
from jaxcompress.compression.observing import observe
from jaxcompress.compression.precision import exact
from jaxcompress.finite import require_finite
from jaxcompress.graph import Graph
from jaxcompress.graph.internals import bind
from jaxcompress.graph.interpret import Node
from jaxcompress.low_rank.checks import check_sites
from jaxcompress.low_rank.statistics.covariance import covariance_root
from jaxcompress.low_rank.statistics.site_inputs import over_uses
from jaxcompress.per_device import AxisName, average, per_device

__all__ = ["output_covariances", "output_roots", "output_sensitivities"]


def output_covariances(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    batches: Iterable[Batch],
    paths: Collection[str],
    *,
    key: jax.Array,
    axis_name: AxisName = None,
) -> dict[str, np.ndarray]:
    """Return G of each site: E|dz|^2 = tr(E[dy dy^T] G), a mean over examples.

    Uses of a shared kernel add up. BatchNorm in evaluation mode.

    Args:
        graph: of the network, for the sites.
        apply: `(variables, inputs) -> z [examples, ...]`, the network or a function of its outputs;
            logits are best centred, because adding one number to all of an example's changes
            nothing.
        variables: its variables.
        batches: inputs of one shape, with the examples in front; no labels.
        paths: of the kernels of the sites.
        key: of the random signs.
        axis_name: of the surrounding `jax.shard_map` or `jax.pmap`, over which each batch is split;
            see `jaxcompress.per_device`.

    Returns:
        `float64[scanned..., groups, channels, channels]` by path, channels those of one group.

    Raises:
        ValueError: if a site does not exist, there is no batch, or a branch, a `while` loop or a
            reversed scan holds a site, or a scanned kernel has several uses.

    Example:
        >>> from jaxcompress.graph import trace
        >>> apply = lambda variables, x: (x @ variables["a"]) * jnp.array([3.0, 1.0])
        >>> variables, x = {"a": jnp.ones((2, 2))}, jnp.ones((64, 2))
        >>> graph = trace(apply, variables, x)
        >>> covariances = output_covariances(
        ...     graph, apply, variables, [x], ["a"], key=jax.random.key(0)
        ... )
        >>> np.diagonal(covariances["a"][0]).tolist()
        [9.0, 1.0]
    """
    check_sites(graph, dict.fromkeys(paths))
    require_finite("variables", variables, "train or load them again")
    means = compiled(
        lambda tree, inputs, key: _batch_means(graph, apply, tree, inputs, paths, key, axis_name)
    )
    total: dict[str, np.ndarray] = {}
    count = 0
    for number, inputs in enumerate(batches):
        batch_means = means(variables, inputs, jax.random.fold_in(key, number))
        for path, mean in batch_means.items():
            total[path] = total.get(path, 0.0) + exact(mean)
        count += 1
    if not count:
        raise ValueError("a sensitivity needs data, but there is no batch; pass at least one")
    require_finite("output covariances", total, "look for NaN in the batches")
    return {path: sums / count for path, sums in total.items()}


def output_sensitivities(covariances: Mapping[str, Array]) -> dict[str, float]:
    """Return d of each site: E|dz|^2 = d E|dy|^2 if all its channels err alike, d = tr(G) / n.

    Args:
        covariances: of `output_covariances`.

    Example:
        >>> output_sensitivities({"a": np.array([[[9.0, 0.0], [0.0, 1.0]]])})
        {'a': 5.0}
    """
    traces = {
        path: np.trace(covariance, axis1=-2, axis2=-1) for path, covariance in covariances.items()
    }
    return {
        path: float(trace.mean()) / covariances[path].shape[-1] for path, trace in traces.items()
    }


def output_roots(
    graph: Graph, covariances: Mapping[str, Array], forms: Mapping[str, str], ridge: float = 0.1
) -> dict[str, np.ndarray]:
    """Return S with S S^T = G, for the columns of each site's matrix.

    Cutting R^T M S instead of R^T M minimises the expected error of the function's outputs instead
    of that of the site's, tr(D^T C D G). The columns of a `spatial` matrix are the outputs of every
    horizontal tap, whose errors count apart: S is the same for each.

    Args:
        graph: of the network.
        covariances: of `output_covariances`.
        forms: "spatial", "channel" or "dense" by site.
        ridge: share of G's mean variance that is added to every variance: G knows only errors that
            are small, of positions that are independent, on a few images.

    Returns:
        Lower triangular `[scanned..., groups, columns, columns]` by path.

    Example:
        >>> from jaxcompress.graph import trace
        >>> graph = trace(lambda v, x: x @ v["a"], {"a": jnp.ones((2, 2))}, jnp.ones((1, 2)))
        >>> output_roots(graph, {"a": np.diag([9.0, 1.0])[None]}, {"a": "dense"}, ridge=0.0)
        {'a': array([[[3., 0.],
                [0., 1.]]])}
    """
    require(ridge=real(ridge, least=0))
    check_sites(graph, forms)
    roots = {}
    for path, name in forms.items():
        root = covariance_root(covariances[path], ridge)
        taps = graph.sites[path].form(name).columns // root.shape[-1]
        roots[path] = np.kron(np.eye(taps), root)
    return roots


def _batch_means(
    graph: Graph,
    apply: Function,
    variables: PyTree,
    inputs: PyTree,
    paths: Collection[str],
    key: jax.Array,
    axis_name: AxisName,
) -> dict[str, Array]:
    """Return G of one batch."""
    errors = _gradients(apply, variables, inputs, paths, key, axis_name)
    examples = jax.tree.leaves(inputs)[0].shape[0]
    means = {
        path: over_uses(graph, path, [_products(graph, path, *use) for use in gradients]).sum(0)
        / examples
        for path, gradients in errors.items()
    }
    return average(means, axis_name)


def _gradients(
    apply: Function,
    variables: PyTree,
    inputs: PyTree,
    paths: Collection[str],
    key: jax.Array,
    axis_name: AxisName,
) -> dict[str, list[tuple[Node, int, Any]]]:
    """Return for every use of a kernel its node, the kernel's position, and the gradient."""
    variables, inputs = per_device((variables, inputs), axis_name, like=(variables, inputs))
    uses: dict[str, list[tuple[Node, int]]] = {}

    def outputs() -> PyTree:
        _, seen, seen_uses = _run(apply, variables, inputs, paths, None)
        uses.update(seen_uses)
        return seen

    zeros = jax.tree.map(lambda aval: jnp.zeros(aval.shape, aval.dtype), jax.eval_shape(outputs))
    zeros = per_device(zeros, axis_name, like=(variables, inputs))

    def projected(errors: Any) -> jax.Array:
        (z,), _, _ = _run(apply, variables, inputs, paths, errors)
        return (_signs(key, z, axis_name) * z).sum()

    gradients = jax.grad(projected)(zeros)
    return {
        path: [(*use, gradient) for use, gradient in zip(uses[path], gradients[path], strict=True)]
        for path in paths
    }


def _signs(key: jax.Array, z: jax.Array, axis_name: AxisName) -> jax.Array:
    """Draw the signs of these outputs: a device's part of those of the whole batch."""
    if axis_name is None:
        return jax.random.rademacher(key, z.shape, z.dtype)
    whole = (len(z) * jax.lax.psum(1, axis_name), *z.shape[1:])
    signs, start = jax.random.rademacher(key, whole, z.dtype), jax.lax.axis_index(axis_name)
    return jax.lax.dynamic_slice_in_dim(signs, start * len(z), len(z))


def _run(
    apply: Function, variables: PyTree, inputs: PyTree, paths: Collection[str], errors: Any
) -> tuple[list[Any], dict[str, list[Any]], dict[str, list[tuple[Node, int]]]]:
    """Run the function with errors added to the sites' outputs; return these outputs too."""
    seen: dict[str, list[Any]] = {path: [] for path in paths}
    uses: dict[str, list[tuple[Node, int]]] = {path: [] for path in paths}

    def look(path: str, node: Node, arrays: Sequence[Array], position: int) -> PyTree:
        (output,) = bind(node.equation, arrays)
        number = len(seen[path])
        seen[path].append(output)
        uses[path].append((node, position))
        return output if errors is None else output + errors[path][number]

    return observe(apply, variables, inputs, paths, look), seen, uses


def _products(graph: Graph, path: str, node: Node, position: int, gradient: Array) -> Array:
    """Return the sum over positions and examples of g g^T, `[groups, channels, channels]`."""
    site = graph.sites[path]
    if site.primitive == "dot_general":
        columns = site.forms[0].columns
        moved = gradient.reshape(-1, columns) if position else gradient.reshape(columns, -1).T
    else:
        features = node.equation.params["dimension_numbers"].out_spec[1]
        moved = jnp.moveaxis(gradient, features, -1)
    groups = site.forms[0].groups
    rows = moved.reshape(-1, groups, moved.shape[-1] // groups).astype(jnp.float32)
    return jnp.einsum("ngc,ngd->gcd", rows, rows, precision="highest")
