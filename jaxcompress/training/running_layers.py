"""Which leaves hold running statistics: named by the caller, or by their own names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxcompress.graph.trainable import Leaves, inexact

__all__ = ["Running", "layers_of"]


class Running(NamedTuple):
    """The leaves that hold one layer's running statistics, by path.

    Attributes:
        mean: the running mean.
        var: the running variance, if there is one.
        batches: how many were averaged, where evaluation divides both by 1 - m ** batches.
    """

    mean: str
    var: str | None = None
    batches: str | None = None


def layers_of(state: Leaves, statistics: Sequence[Running] | None) -> Sequence[Running]:
    """Return the layers of a training-mode function's new state; `statistics` names them.

    Raises:
        ValueError: if the state lacks what is named, or, where nothing is, holds no such leaves.
    """
    return _named(state) if statistics is None else _checked(statistics, state)


def _named(state: Leaves) -> list[Running]:
    """Pair the leaves named `mean` and `var` of a training-mode function's new state."""
    names = {"mean", "var"}
    paths = [p for p, leaf in state.items() if p.split("/")[-1] in names and inexact(p, leaf)]
    means = {p.removesuffix("mean"): p for p in paths if p.endswith("mean")}
    variances = {p.removesuffix("var"): p for p in paths if p.endswith("var")}
    alone = [path for start, path in variances.items() if start not in means]
    if not paths or alone:
        raise ValueError(
            "running statistics are leaves named `mean`, or `mean` and `var` side by side, but "
            f"{alone or sorted(state)} {'lack a mean' if alone else 'hold none'}; return them as "
            "the new state of train_apply, or name them by statistics="
        )
    return [Running(path, variances.get(start)) for start, path in means.items()]


def _checked(statistics: Sequence[Running], state: Leaves) -> Sequence[Running]:
    missing = [path for layer in statistics for path in layer if path and path not in state]
    if missing or not statistics:
        raise ValueError(
            f"statistics= names leaves of the new state, but {missing or 'none'} of "
            f"{sorted(state)}; for Equinox pass adapters.equinox_statistics(model)"
        )
    return statistics
