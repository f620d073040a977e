"""What a compression did to a network, as a report holds it: widths, zeros, ranks, frozen axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxcompress.annotations import Array, Json, PyTree
from jaxcompress.compression import Compression
from jaxcompress.compression.record import steps_of
from jaxcompress.graph import Graph, default_trainable
from jaxcompress.graph.groups import Group
from jaxcompress.graph.matrices import site_matrices
from jaxcompress.low_rank.ranks.spectrum import singular_values
from jaxcompress.paths import flatten_with_paths

__all__ = ["curves", "details"]

SHOWN_VALUES = 48
"""Of a spectrum, at evenly spaced ranks: more are not told apart in a picture."""


def details(
    graph: Graph, compression: Compression, variables: PyTree, trained: PyTree = None
) -> dict[str, Json]:
    """Say what a compression did, as `details` of a row of a report.

    Args:
        graph: of the original function.
        compression: made for the original variables.
        variables: the original ones.
        trained: those of the smaller network, whose zeros are counted; by default what the
            compression makes of the original ones.

    Returns:
        As JSON can hold, and only what there is: `groups` with their widths before and after,
        if any channel went; `sparsity`, per leaf that is sparsified, its size and how many values
        are not zero; `ranks`, per factorized site, its form, rank, full rank, and the singular
        values of the kernel that was factorized; `frozen`, which axes cannot shrink, by reason.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> from jaxcompress.prune import shrink
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 3)))
        >>> small = shrink(graph, {"a[1]": np.array([True, False, True, False])})
        >>> details(graph, small, variables)["groups"]
        [{'name': 'a[1]', 'before': 4, 'after': 2}]
    """
    steps = list(_followed(compression, variables))
    end = compression.variables(variables) if trained is None else trained
    made = {
        "groups": _groups(graph, [step.spec for step, _ in steps]),
        "sparsity": _sparsity([step.spec for step, _ in steps], end),
        "ranks": [rank for step, leaves in steps for rank in _ranks(step.spec, leaves)],
        "frozen": _frozen(graph),
    }
    return {name: entries for name, entries in made.items() if entries}


def curves(history: Sequence[Mapping[str, Json]]) -> list[Json]:
    """Return the metrics of a training run by epoch, as `curves` of a row's details.

    Args:
        history: per epoch, `epoch` and metrics by name; `seconds` is left out.

    Example:
        >>> curves([{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.0}])
        [{'name': 'train_loss', 'epochs': [1, 2], 'values': [2.0, 1.0]}]
    """
    names = dict.fromkeys(name for epoch in history for name in epoch)
    return [
        {
            "name": name,
            "epochs": [int(epoch["epoch"]) for epoch in history if name in epoch],
            "values": [float(epoch[name]) for epoch in history if name in epoch],
        }
        for name in names
        if name not in ("epoch", "seconds")
    ]


def _followed(
    compression: Compression, variables: PyTree
) -> Iterator[tuple[Compression, dict[str, Array]]]:
    """Yield each step with the leaves that it is given."""
    for step in steps_of(compression):
        yield step, flatten_with_paths(variables)[0]
        # A step that was read from a file holds no masks; zeros are counted at the end.
        if step.spec["kind"] != "sparsify":
            variables = step.variables(variables)


def _groups(graph: Graph, specs: Sequence[Mapping[str, Json]]) -> list[Json]:
    """Return the widths of all groups, nothing where all are whole."""
    kept = {
        (path, axis): np.arange(size)
        for path, leaf in graph.leaves.items()
        for axis, size in enumerate(leaf.shape)
    }
    for spec in specs:
        for path, leaf in spec["leaves"].items() if spec["kind"] == "shrink" else ():
            for axis, indices in leaf["keep"].items():
                if (path, int(axis)) in kept:
                    kept[path, int(axis)] = kept[path, int(axis)][indices]
    widths: list[Json] = [
        {"name": name, "before": group.width, "after": _width(group, kept)}
        for name, group in graph.groups.items()
    ]
    return widths if any(w["after"] < w["before"] for w in widths) else []


def _width(group: Group, kept: Mapping[tuple[str, int], np.ndarray]) -> int:
    """Count the channels that are left on every leaf; a leaf that was replaced tells nothing."""
    left = np.ones(group.width, bool)
    for member in group.members:
        left &= np.isin(member.indices, kept[member.path, member.axis]).all(-1)
    return int(left.sum())


def _sparsity(specs: Sequence[Mapping[str, Json]], variables: PyTree) -> list[Json]:
    """Count the values of the leaves that were sparsified, if no later step replaced them."""
    leaves, _ = flatten_with_paths(variables)
    trainable = default_trainable(variables)
    sparse = [path for s in specs if s["kind"] == "sparsify" for path in s["leaves"]]
    return [
        {
            "path": path,
            "size": int(np.size(leaves[path])),
            "nonzero": int(np.count_nonzero(np.asarray(leaves[path]))),
        }
        for path in dict.fromkeys(sparse)
        if path in leaves and trainable(path, leaves[path])
    ]


def _ranks(spec: Mapping[str, Json], leaves: Mapping[str, Array]) -> Iterator[Json]:
    """Yield the sites that a step factorizes, with the spectra of their kernels."""
    sites = spec["sites"] if spec["kind"] == "factorize" else {}
    for path, matrix in site_matrices(leaves, sites).items() if sites else ():
        values = singular_values(matrix)
        mean = values.reshape(-1, values.shape[-1]).mean(0)
        rank, full = int(sites[path]["rank"]), len(mean)
        yield {
            "site": path,
            "form": sites[path]["form"],
            "full": full,
            "rank": rank,
            "spectrum": [[n, float(f"{mean[n - 1]:.4g}")] for n in _shown_ranks(rank, full)],
        }


def _shown_ranks(rank: int, full: int) -> list[int]:
    spread = np.linspace(1, full, min(full, SHOWN_VALUES)).round().astype(int)
    return sorted({*spread.tolist(), rank})


def _frozen(graph: Graph) -> list[Json]:
    """Gather the frozen axes by reason and place; places are told without their folders."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for entry in graph.frozen:
        place = entry.source.replace("\\", "/").rsplit("/", 1)[-1]
        reasons.setdefault((entry.reason, place), []).append(f"{entry.path}[{entry.axis}]")
    return [
        {"reason": reason, "source": source, "axes": axes}
        for (reason, source), axes in reasons.items()
    ]
