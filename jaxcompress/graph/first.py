"""What a graph says of its first function alone, before others are labelled with it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxcompress.graph.additions import added_labels
from jaxcompress.graph.counting import count_examples, per_example
from jaxcompress.graph.derived import has_derived_kernel
from jaxcompress.graph.internals import source_line
from jaxcompress.graph.labelling import Contraction, Reduction
from jaxcompress.graph.program import LabelledProgram
from jaxcompress.graph.rounds import estimates
from jaxcompress.graph.scales import scale_leaves
from jaxcompress.graph.sites import Site, find_sites
from jaxcompress.graph.symbolic import of_one_example

__all__ = ["FirstReading", "first_reading"]


class FirstReading(NamedTuple):
    """What the first function sums over, reads, costs, adds and scales by.

    Attributes:
        contractions: its convs and dots; divided by `examples`, what one example costs.
        reductions: its sums and other reductions.
        uses: how many equations read each leaf.
        sites: as in `Graph`.
        examples: by how many examples costs are divided.
        added: the labels along which two branches are added.
        derived: as in `Graph`.
        scales: as in `Graph`.
        estimates: as in `Graph`.
    """

    contractions: tuple[Contraction, ...]
    reductions: tuple[Reduction, ...]
    uses: dict[str, int]
    sites: dict[str, Site]
    examples: int
    added: np.ndarray
    derived: tuple[str, ...]
    scales: tuple[str, ...]
    estimates: tuple[str, ...]


def first_reading(labelled: LabelledProgram) -> FirstReading:
    """Return what is of a function that was just labelled, before its leaves meet others."""
    labelling = labelled.labelling
    examples = count_examples(labelled)
    at_one = of_one_example(labelling.contractions, labelled.program.inputs)
    contractions = per_example(labelled, at_one, examples)
    lines = [source_line(c.equation) for c in contractions if has_derived_kernel(c)]
    return FirstReading(
        contractions,
        tuple(labelling.reductions),
        dict(labelling.uses),
        find_sites(labelled, contractions, examples),
        examples,
        np.flatnonzero(added_labels(labelled)),
        tuple(dict.fromkeys(lines)),
        scale_leaves(labelled),
        estimates(labelled.body),
    )
