"""What is known of a network's sites before their ranks are chosen; ranks, and factors of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxcompress as jc
from experiments.common.network import Network
from experiments.common.stage_files import read_arrays
from experiments.common.timing import Stopwatch
from experiments.ranks.settings import Factors, Method
from jaxcompress import low_rank
from jaxcompress.annotations import Array, Batch, Function, Json, PyTree
from jaxcompress.files import atomic_file
from jaxcompress.low_rank import ranks
from jaxcompress.processes import by_first, together
from jaxcompress.recipes import sites

__all__ = ["SEARCHES", "Known", "choose", "compensated", "costs", "factorized", "learn"]

Chosen = dict[str, int | None]

SEARCHES: Mapping[str, ranks.Search] = MappingProxyType(
    {
        "uniform": ranks.uniform,
        "energy_threshold": ranks.energy_threshold,
        "evbmf": ranks.evbmf_scaled,
        "enc_map": ranks.enc_map,
        "enc_model": ranks.enc_model,
        "optimum": ranks.optimum,
    }
)
"""Methods that need the weights alone; `enc_inf` and `sensitivity` need images, too."""


class Known(NamedTuple):
    """What the methods know of the sites.

    Attributes:
        graph: of the network.
        forms: of its sites.
        table: with the spectra of the kernels.
        inputs: of the sites, not centred: for networks as they are.
        centred: the inputs' deviations from their means: for re-estimated networks.
        outputs: G of the sites, with a ridge.
        output_roots: of the same.
        weighted_table: with the spectra of the `weighted` factors.
        seconds: what each part took.
    """

    graph: jc.Graph
    forms: dict[str, str]
    table: ranks.Sites
    inputs: Inputs
    centred: Inputs
    outputs: Mapping[str, Array]
    output_roots: Mapping[str, Array]
    weighted_table: ranks.Sites
    seconds: dict[str, float]


class Inputs(NamedTuple):
    """Covariances of the sites' inputs.

    Attributes:
        roots: of the rows of each site's matrix.
        patches: of full patches.
    """

    roots: Mapping[str, Array]
    patches: Mapping[str, Array]


RIDGE, ROUNDS = 0.1, 3


def learn(
    apply: Function, variables: PyTree, images: jax.Array, key: jax.Array, folder: Path
) -> Known:
    """Decompose all kernels, and look at what the sites are given and how much they matter.

    Args:
        apply: the network in evaluation mode.
        variables: its variables.
        images: training images `[steps, batch, ...]`, for the covariances and the gradients.
        key: of the gradients.
        folder: what images told is kept here for the next run.
    """
    seconds = dict[str, float]()
    image = jax.ShapeDtypeStruct((1, *images.shape[2:]), images.dtype)
    graph = jc.trace(apply, variables, image)
    forms = ranks.default_forms(graph)

    def timed(name: str, make: Callable[[], Any], *keep: Path) -> Any:
        watch = Stopwatch()
        made = _kept(keep[0], make) if keep else make()
        seconds[name] = watch.seconds
        return made

    moments = functools.partial(low_rank.statistics.input_moments, graph, apply, variables, images)
    full = {path: "channel" for path in forms}
    rows = timed("covariances of rows", lambda: moments(forms), folder / "rows.npz")
    patches = timed("covariances of patches", lambda: moments(full), folder / "patches.npz")
    gradients = functools.partial(
        low_rank.statistics.output_covariances, graph, _centred(apply), variables
    )
    outputs = timed(
        "gradients", lambda: gradients(images, list(forms), key=key), folder / "outputs.npz"
    )
    inputs, centred = (_inputs(rows, patches, is_centred) for is_centred in (False, True))
    weights = low_rank.statistics.output_roots(graph, outputs, forms, RIDGE)
    table = functools.partial(ranks.sites_of, graph, variables, forms)
    return Known(
        graph,
        forms,
        timed("svd", table),
        inputs,
        centred,
        {path: _with_ridge(covariance) for path, covariance in outputs.items()},
        weights,
        timed("svd with data", lambda: table(centred.roots, weights)),
        seconds,
    )


def _inputs(rows: Mapping[str, Json], patches: Mapping[str, Array], is_centred: bool) -> Inputs:
    covariances = low_rank.statistics.covariances_of(rows, is_centred)
    roots = {
        path: low_rank.statistics.covariance_root(covariance)
        for path, covariance in covariances.items()
    }
    return Inputs(roots, low_rank.statistics.covariances_of(patches, is_centred))


def _with_ridge(covariance: Array) -> np.ndarray:
    root = low_rank.statistics.covariance_root(covariance, RIDGE)
    return root @ root.swapaxes(-1, -2)


def _centred(apply: Function) -> Function:
    """Return the logits without what is added to all of an example's, which changes nothing."""

    def centred(variables: PyTree, images: Batch) -> jax.Array:
        logits = apply(variables, images)
        return logits - logits.mean(-1, keepdims=True)

    return centred


def _kept(file: Path, make: Callable[[], Mapping[str, Any]]) -> dict[str, Json]:
    """Return what a file holds, or make it and write the file, whole or not at all.

    All processes make it, and read what the first has written.
    """
    about = f"making {file.name}"
    if not by_first(about, file.exists):
        made = together(about, make)
        by_first(about, lambda: _write(file, made))
    return {path.replace("|", "/"): array for path, array in read_arrays(file).items()}


def _write(file: Path, made: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Array] = {path.replace("/", "|"): array for path, array in made.items()}
    with atomic_file(file) as stream:
        np.savez(stream, **arrays)


def choose(
    known: Known, method: Method, budget: jc.Budget, evaluate: Callable[[Chosen], float]
) -> Chosen:
    """Return the ranks of a method: those that the first process finds, in all.

    Args:
        known: of the sites.
        method: of `SEARCHES`, `enc_inf` or `sensitivity`.
        budget: that the ranks hold.
        evaluate: accuracy at ranks, on training images; only `enc_inf` asks for it.
    """
    about = f"ranks by {method}"
    if method == "enc_inf":
        # All of them classify the images of each candidate.
        chosen = ranks.enc_inf(known.table, budget, evaluate=evaluate)
        return by_first(about, lambda: chosen)  # type: ignore[no-any-return]
    return by_first(about, lambda: _searched(known, method, budget))  # type: ignore[no-any-return]


def _searched(known: Known, method: Method, budget: jc.Budget) -> Chosen:
    if method == "sensitivity":
        table = known.weighted_table
        return ranks.optimum(table, budget, metric=ranks.error_metric(table), cells=10_000)
    return SEARCHES[method](known.table, budget)


def factorized(
    known: Known, variables: PyTree, chosen: Chosen, factors: Factors
) -> tuple[jc.Compression, PyTree]:
    """Return the compression at ranks, and its variables with factors made as `Factors` says."""
    if factors == "weighted":
        return sites.factorized(weighted(known), variables, chosen)
    roots = None if factors == "weights" else known.inputs.roots
    lowrank = jc.factorize(known.graph, chosen, known.forms, roots)
    small = lowrank.variables(variables)
    if factors == "refined":
        small = low_rank.refine(lowrank, variables, small, known.inputs.patches, rounds=ROUNDS)
    return lowrank, small


def weighted(known: Known) -> sites.Known:
    """Return what `recipes.low_rank` needs to know, of statistics that are re-estimated."""
    inputs, outputs = known.centred, (known.outputs, known.output_roots)
    return sites.Known(known.graph, known.forms, *inputs, *outputs, centred=True, rounds=ROUNDS)


def compensated(
    known: Known,
    network: Network,
    lowrank: jc.Compression,
    small: PyTree,
    whole: PyTree,
    images: Batch,
) -> PyTree:
    """Return factors that make up for what the changed network before them has lost.

    Args:
        known: of the sites.
        network: the original.
        lowrank: of `factorized`, "weighted".
        small: its variables.
        whole: the same multiplied out, with BatchNorm re-estimated.
        images: training images `[steps, batch, ...]`.
    """
    both = network.variables, whole
    return sites.compensated(weighted(known), lowrank, network.apply, both, small, images)


def costs(known: Known, chosen: Chosen) -> dict[str, Json]:
    """Return the counted FLOPs and parameters at ranks, as fields of a row."""
    table, array = known.table, known.table.array(chosen)
    return {
        "flops": float(table.cost("flops", array)),
        "num_params": int(table.cost("params", array)),
    }
