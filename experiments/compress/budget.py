"""The budget as it is written, `flops=0.5 bytes=0.1`, and who has to meet which part of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

import jaxcompress as jc
from experiments.compress.nearest import nearest
from jaxcompress.recipes.pruning import groups_of

__all__ = ["KINDS", "budget_problems", "check_reachable", "parsed", "part_of_the_way", "structural"]

KINDS = ("flops", "params", "bytes", "latency")
INT8 = 0.27
"""Bytes of int8 with scales and a structure, as a share of float32; about."""


def parsed(words: Sequence[str]) -> dict[str, float]:
    """Return the shares that a budget asks for, by kind.

    Raises:
        ValueError: naming every word that is no share of a kind.

    Example:
        >>> parsed(["flops=0.5", "bytes=0.1"])
        {'flops': 0.5, 'bytes': 0.1}
    """
    problems = budget_problems(words)
    if problems:
        raise ValueError("; ".join(problems))
    pairs = [word.split("=") for word in words]
    return {kind: float(value) for kind, value in pairs}


def budget_problems(words: Sequence[str]) -> list[str]:
    """Say what is wrong with each word of a budget, and with all of them together.

    Example:
        >>> budget_problems(["flop=0.5"])
        ["budget: 'flop=0.5' limits no known kind; did you mean 'flops'?"]
    """
    if not words:
        return [f"budget: nothing is limited; say for example flops=0.5, of {', '.join(KINDS)}"]
    problems = [problem for word in words if (problem := _problem(word))]
    kinds = [word.split("=")[0] for word in words]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    return problems + [f"budget: {kind} is limited twice; say it once" for kind in twice]


def _problem(word: str) -> str | None:
    kind, equals, text = word.partition("=")
    if not equals:
        return f"budget: {word!r} is no kind=share; say for example flops=0.5"
    if kind not in KINDS:
        return f"budget: {word!r} limits no known kind; {nearest(kind, KINDS)}"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        return f"budget: a share is a number in (0, 1], but {word!r}; say for example {kind}=0.5"
    return None


def structural(shares: Mapping[str, float], is_sparse: bool) -> dict[str, float]:
    """Return what channels and ranks have to meet: bytes are met by rounding, as far as that goes.

    Args:
        shares: of the whole network.
        is_sparse: whether zeros save bytes too, as many as need be.

    Example:
        >>> structural({"flops": 0.5, "bytes": 0.3}, is_sparse=False)
        {'flops': 0.5}
        >>> round(structural({"bytes": 0.135}, is_sparse=False)["params"], 3)
        0.5
    """
    kept = {kind: share for kind, share in shares.items() if kind != "bytes"}
    most = 1.0 if is_sparse or "bytes" not in shares else shares["bytes"] / INT8
    if most < 1:
        kept["params"] = min(most, kept.get("params", 1.0))
    return kept


def check_reachable(
    shares: Mapping[str, float], graph: jc.Graph, protect: Sequence[str] = (), remedy: str = ""
) -> None:
    """Raise if no choice of channels reaches a budget; nothing is computed.

    Raises:
        ValueError: which of its kinds is out of reach, and how near one comes.
    """
    groups = groups_of(graph, "internal")
    even = {name: np.ones(graph.groups[name].width, np.float32) for name in groups}
    try:
        jc.select(graph, even, jc.Budget(**shares), protect=protect)
    except ValueError as error:
        raise ValueError(f"budget: {error}{remedy}") from error


def part_of_the_way(shares: Mapping[str, float], part: float, graph: jc.Graph) -> jc.Budget:
    """Return the budget that is met after a part of the way, in logarithms of cost, in numbers.

    Args:
        shares: of the whole network, which is the end of the way.
        part: from 0, the whole network, to 1.
        graph: of the whole network.

    Example:
        >>> import jax.numpy as jnp
        >>> graph = jc.trace(lambda v, x: x @ v["a"], {"a": jnp.ones((4, 4))}, jnp.ones((1, 4)))
        >>> part_of_the_way({"flops": 0.25}, 0.5, graph)
        Budget(flops=16.0, params=None, bytes=None, latency=None)
    """
    return jc.Budget(**{kind: share**part for kind, share in shares.items()}).of(graph)
