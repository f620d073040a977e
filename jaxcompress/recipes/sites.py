"""What low rank needs to know of a network's sites, and the ranks and factors made of it.

All that recipes ask of `low_rank` stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from jaxcompress import low_rank
from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.arguments import integer, real, require
from jaxcompress.compression import Compression
from jaxcompress.graph import Budget, Graph
from jaxcompress.low_rank import ranks
from jaxcompress.low_rank.statistics.site_inputs import There
from jaxcompress.paths import flatten_with_paths

__all__ = [
    "Known",
    "LowRankSettings",
    "chosen_ranks",
    "compensated",
    "factorized",
    "known_sites",
    "weighted_sites",
]


@dataclass(frozen=True)
class LowRankSettings:
    """How much is looked at; defaults are those of the published table for ResNet-56.

    Attributes:
        examples: for input covariances and output gradients, and for statistics of BatchNorm.
        size: of a batch of these.
        ridge: of the output gradients.
        rounds: of refining both halves of a 3 x 1 and 1 x 3 pair.
        fitting: examples of each sweep of the compensation.
        fitting_size: of a batch of these; the rows of all sites are held at once.
    """

    examples: int = 1024
    size: int = 128
    ridge: float = 0.1
    rounds: int = 3
    fitting: int = 256
    fitting_size: int = 32

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        require(
            examples=integer(self.examples),
            size=integer(self.size),
            ridge=real(self.ridge, above=0),
            rounds=integer(self.rounds, least=0),
            fitting=integer(self.fitting),
            fitting_size=integer(self.fitting_size),
        )


class Known(NamedTuple):
    """What is known of the sites of a network.

    Attributes:
        graph: of the network.
        forms: of its sites.
        roots: of the covariances of the rows of each site's matrix.
        patches: covariances of full patches.
        outputs: G of each site, with a ridge.
        output_roots: S of each site.
        centred: whether means are subtracted, because BatchNorm will be re-estimated.
        rounds: of refining.
    """

    graph: Graph
    forms: Mapping[str, str]
    roots: Mapping[str, Array]
    patches: Mapping[str, Array]
    outputs: Mapping[str, Array]
    output_roots: Mapping[str, Array]
    centred: bool
    rounds: int


def _full(forms: Mapping[str, str]) -> dict[str, str]:
    """Return the forms whose rows are all that one output is computed from."""
    return {path: "dense" if form == "dense" else "channel" for path, form in forms.items()}


def known_sites(
    graph: Graph,
    functions: tuple[Callable[..., Any], Callable[..., Any]],
    variables: PyTree,
    seen: Sequence[Array],
    forms: Mapping[str, str],
    centred: bool,
    settings: LowRankSettings,
    key: jax.Array,
    mask: There | None = None,
) -> Known:
    """Look at what the sites are given, and at how far their errors move the outputs.

    Args:
        graph: of the network.
        functions: `apply`, and the same with outputs as errors of them count.
        variables: its variables.
        seen: batches of inputs.
        forms: of the sites.
        centred: subtract means.
        settings: how.
        key: of random signs.
        mask: of one of `seen`; rows at padding do not count.
    """
    apply, outputs_of = functions
    moments = low_rank.input_moments(graph, apply, variables, seen, forms, mask)
    patches = low_rank.input_moments(graph, apply, variables, seen, _full(forms), mask)
    covariances = low_rank.covariances_of(moments, centred)
    outputs = low_rank.output_covariances(graph, outputs_of, variables, seen, list(forms), key=key)
    roots = {path: low_rank.covariance_root(outputs[path], settings.ridge) for path in forms}
    return Known(
        graph,
        forms,
        {path: low_rank.covariance_root(covariance) for path, covariance in covariances.items()},
        low_rank.covariances_of(patches, centred),
        {path: root @ root.swapaxes(-1, -2) for path, root in roots.items()},
        low_rank.output_roots(graph, outputs, forms, settings.ridge),
        centred,
        settings.rounds,
    )


def chosen_ranks(sites: ranks.Sites, budget: Budget) -> dict[str, int | None]:
    """Return the ranks of least expected squared error of the outputs under the budget."""
    return ranks.optimum(sites, budget, metric=ranks.error_metric(sites), cells=10_000)


def weighted_sites(known: Known, variables: PyTree, multiple_of: int = 1) -> ranks.Sites:
    """Return the sites, spectra weighted by what they are given and how much it matters."""
    return ranks.sites_of(
        known.graph,
        variables,
        known.forms,
        known.roots,
        known.output_roots,
        multiple_of=multiple_of,
    )


def factorized(
    known: Known, variables: PyTree, chosen: Mapping[str, int | None]
) -> tuple[Compression, PyTree]:
    """Return the compression at ranks, with roots inside, and its refined variables."""
    compression = low_rank.factorize(
        known.graph, chosen, known.forms, known.roots, known.output_roots
    )
    small = compression.variables(variables)
    refined = low_rank.refine(
        compression, variables, small, known.patches, known.outputs, rounds=known.rounds
    )
    return compression, refined


def compensated(
    known: Known,
    compression: Compression,
    apply: Function,
    whole: tuple[Any, Any],
    small: PyTree,
    seen: Sequence[Array],
    mask: There | None = None,
) -> PyTree:
    """Return factors that make up for what the changed network before them has lost.

    Args:
        known: of the sites.
        compression: of `factorized`.
        apply: of the network.
        whole: the original variables, and `small` multiplied out, BatchNorm re-estimated.
        small: the factors so far.
        seen: batches of inputs.
        mask: of one of `seen`.
    """
    sites = compression.spec["sites"]
    full = _full({path: known.forms[path] for path in sites})
    targets, patches = low_rank.compensate(
        known.graph, apply, *whole, seen, full, centred=known.centred, mask=mask
    )
    refined = low_rank.refine(
        compression, targets, small, patches, known.outputs, rounds=known.rounds
    )
    others = {path: site["rank"] for path, site in sites.items() if site["form"] != "spatial"}
    if not others:
        return refined
    roots = {path: low_rank.covariance_root(patches[path]) for path in others}
    forms = {path: known.forms[path] for path in others}
    again = low_rank.factorize(known.graph, others, forms, roots, known.output_roots)
    made, _ = flatten_with_paths(again.variables(targets), whole=others)
    leaves, treedef = flatten_with_paths(refined, whole=sites)
    new = {**leaves, **{path: made[path] for path in others}}
    return jax.tree.unflatten(treedef, list(new.values()))
