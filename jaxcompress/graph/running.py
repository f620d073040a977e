"""Running a labelled function in another way: on fewer channels, with gates, or site by site."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxcompress.annotations import Array, PyTree
from jaxcompress.graph.interpret import Rewriting
from jaxcompress.graph.program import LabelledProgram, split_static

__all__ = ["run_rewritten"]


def run_rewritten(
    labelled: LabelledProgram,
    rewriting: Rewriting,
    leaves: Iterable[Any],
    inputs: Sequence[Array],
    keywords: Mapping[str, Array],
) -> PyTree:
    """Run a function's labelled program by a rewriting, and return outputs as the function does.

    Args:
        labelled: reading of the function.
        rewriting: what becomes of each equation.
        leaves: of the variables, in the order of the program, as small as the rewriting wants them.
        inputs: the arguments after the variables.
        keywords: the function's keyword arguments.
    """
    arrays = [jnp.asarray(array) for array in split_static((inputs, keywords))[0]]
    outputs = rewriting(labelled.body, [*leaves, *arrays])
    return jax.tree.unflatten(jax.tree.structure(labelled.program.outputs), outputs)
