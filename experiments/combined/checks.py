"""Settings that are refused before anything is read or computed, all at once."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.combined.settings import WAYS, Config, Target, Way, steps_of
from experiments.common.limits import number_problems
from jaxcompress.models import NETWORKS

__all__ = ["check", "points", "targets"]


def targets(config: Config) -> list[Target]:
    """Return all budgets.

    Example:
        >>> targets(Config(bytes=(), flops=(0.5,)))
        [Target(kind='flops', share=0.5)]
    """
    small = [Target("bytes", share) for share in config.bytes]
    return small + [Target("flops", share) for share in config.flops]


def points(config: Config) -> list[tuple[Way, Target]]:
    """Return which way goes to which budget: zeros save bytes alone.

    Example:
        >>> points(Config(ways=("prune", "sparse"), bytes=(0.1,), flops=(0.5,)))[1:]
        [('sparse', Target(kind='bytes', share=0.1)), ('prune', Target(kind='flops', share=0.5))]
    """
    return [
        (way, target)
        for target in targets(config)
        for way in config.ways
        if target.kind == "bytes" or "sparse" not in steps_of(way)
    ]


def check(config: Config) -> None:
    """Raise if a setting cannot be meant, whatever the network and the data are.

    Raises:
        ValueError: naming every such setting.

    Example:
        >>> check(Config(seeds=(), flops=(1.5,)))
        Traceback (most recent call last):
            ...
        ValueError: these settings cannot be meant:
        - weights: a file of published weights is read, but none is named; pass --weights
        - data_dir: prepared images are read, but no folder is named; pass --data-dir
        - seeds: a point needs a seed, but there is none; say for example 0 1 2
        - flops must be a finite number above 0 and of at most 1, but is 1.5
    """
    problems = [*_files(config), *_lists(config), *number_problems(config)]
    if problems:
        raise ValueError("these settings cannot be meant:\n- " + "\n- ".join(problems))


def _files(config: Config) -> list[str]:
    problems = []
    if config.weights is None:
        problems.append(
            "weights: a file of published weights is read, but none is named; pass --weights"
        )
    elif not config.weights.exists():
        problems.append(f"weights: there is nothing at {config.weights}; pass a safetensors file")
    if config.data_dir is None:
        problems.append(
            "data_dir: prepared images are read, but no folder is named; pass --data-dir"
        )
    if config.network not in NETWORKS:
        known = ", ".join(NETWORKS)
        problems.append(f"network: there is no {config.network!r}; choose among {known}")
    return problems


def _lists(config: Config) -> list[str]:
    problems = []
    if not config.seeds:
        problems.append("seeds: a point needs a seed, but there is none; say for example 0 1 2")
    if not config.ways:
        problems.append("ways: none is named; say for example prune low_rank prune-low_rank")
    problems += [
        f"ways: there is no {way!r}; choose among {', '.join(WAYS)}"
        for way in config.ways
        if way not in WAYS
    ]
    for name in ("ways", "seeds", "bytes", "flops"):
        problems += [f"{name}: {x!r} is named twice; say it once" for x in _twice(config, name)]
    if config.ways and not points(config):
        problems.append(
            "bytes and flops: no way goes to a budget; zeros save no FLOPs, so that ways with "
            "sparse need --bytes"
        )
    return problems


def _twice(config: Config, name: str) -> list[object]:
    values: Sequence[object] = getattr(config, name)
    return [value for value in dict.fromkeys(values) if values.count(value) > 1]
