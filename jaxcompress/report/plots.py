"""Pictures of what a compression did: widths before and after, accuracy against cost."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxcompress.annotations import Array
from jaxcompress.graph import Graph

__all__ = ["plot_compression", "plot_rows", "plot_widths"]

DENSE, KEPT = "#c9d3dd", "#1f6f8b"


def plot_widths(axes: Array, graph: Graph, keep: Mapping[str, Array]) -> None:
    """Draw how many channels of each group are kept, as bars over the full widths.

    Args:
        axes: matplotlib axes to draw on.
        graph: whose groups they are.
        keep: `{group: bool[width]}`; groups that it does not name are whole.

    Example:
        >>> import jax.numpy as jnp
        >>> from matplotlib.figure import Figure
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 3)))
        >>> plot_widths(Figure().subplots(), graph, {"a[1]": np.arange(4) < 2})
    """
    full = np.asarray(graph.cost.dense)
    kept = graph.cost.widths(keep)
    places = np.arange(len(full))
    axes.barh(places, full, color=DENSE, label="removed")
    axes.barh(places, kept, color=KEPT, label="kept")
    axes.set_yticks(places, [_short(name) for name in graph.groups], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("channels")
    axes.legend(loc="lower right", fontsize=8, frameon=False)


def _short(name: str) -> str:
    """Drop what all names share: the collection, and the word kernel."""
    return name.removeprefix("params/").replace("/kernel", "")


def plot_rows(axes: Array, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw accuracy against FLOPs, one named point per row that has both.

    Args:
        axes: matplotlib axes to draw on.
        rows: report rows with `name`, `accuracy` (fraction) and `flops` (per example).

    Example:
        >>> from matplotlib.figure import Figure
        >>> plot_rows(Figure().subplots(), [{"name": "dense", "accuracy": 0.9, "flops": 2e6}])
    """
    points = [row for row in rows if row.get("accuracy") is not None and row.get("flops")]
    for number, row in enumerate(points):
        flops, accuracy = row["flops"] / 1e6, 100 * row["accuracy"]
        axes.plot(flops, accuracy, "o", color=KEPT)
        axes.annotate(
            f"{row['name']}  {accuracy:.1f} %",
            (flops, accuracy),
            textcoords="offset points",
            xytext=(6, 4 - 10 * (number % 2)),
            fontsize=8,
        )
    axes.set_xlabel("MFLOPs per example (multiply-accumulates x 2)")
    axes.set_ylabel("test accuracy, %")
    axes.margins(x=0.35, y=0.15)


def plot_compression(
    path: str | os.PathLike[str],
    title: str,
    graph: Graph,
    keep: Mapping[str, Array],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Write a picture with both: accuracy against FLOPs, and the widths of all groups.

    Args:
        path: where to write it; the suffix decides the format.
        title: the heading.
        graph: of the dense network.
        keep: `{group: bool[width]}`.
        rows: report rows.

    Raises:
        ImportError: if matplotlib is not installed, naming the extra that has it.

    Example:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from jaxcompress.graph import trace
        >>> variables = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
        >>> graph = trace(lambda v, x: x @ v["a"] @ v["b"], variables, jnp.ones((1, 3)))
        >>> path = tempfile.mkdtemp() + "/picture.png"
        >>> plot_compression(path, "halved", graph, {"a[1]": np.arange(4) < 2}, [])
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"a picture is drawn by matplotlib, but it cannot be imported ({error}); install the "
            "extra: pip install 'jaxcompress[experiments]'"
        ) from error

    figure = Figure(figsize=(12, max(4.0, 0.17 * len(graph.groups) + 1.5)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    plot_rows(left, rows)
    plot_widths(right, graph, keep)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
