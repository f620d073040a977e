"""The program of an artifact: one more tensor in the file of its variables, read as one more leaf.

So its size and digest are checked with theirs, and savers replace both at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from jaxcompress.annotations import Function, Json
from jaxcompress.artifact.export.stablehlo import check_leaves, load_stablehlo, opened
from jaxcompress.artifact.schema import PROGRAM_NAME
from jaxcompress.artifact.structure import Leaf, Structure

__all__ = ["program_entry", "program_function", "program_tensor", "stored_leaves"]


def program_entry(program: bytes, leaves: Mapping[str, Leaf]) -> dict[str, Json]:
    """Return what the structure says of a program, which must take these leaves.

    Raises:
        ValueError: if it is none, or takes others; all of them are named.
    """
    exported, expected = opened(program)
    check_leaves(expected, leaves)
    return {"size": len(program), "platforms": list(exported.platforms)}


def program_tensor(program: bytes | None) -> dict[str, np.ndarray]:
    """Return the tensor that stores a program, by name; none where there is no program."""
    return {} if program is None else {PROGRAM_NAME: np.frombuffer(program, np.uint8)}


def stored_leaves(structure: Structure) -> dict[str, Leaf]:
    """Return all that the data file holds: the leaves of the variables, and the program."""
    program = structure.program
    more = {} if program is None else {PROGRAM_NAME: Leaf((program["size"],), "uint8")}
    return {**structure.leaves, **more}


def program_function(stored: jax.Array, structure: Structure, folder: Path) -> Function:
    """Return the function that a stored program computes, of the artifact's variables.

    Raises:
        ValueError: if it is no program, or takes other variables.
    """
    program = np.asarray(stored).tobytes()
    try:
        platforms = program_entry(program, structure.leaves)["platforms"]
        if structure.program is None or platforms != structure.program["platforms"]:
            raise ValueError(f"the program is for {platforms}, other than the structure says")
        return load_stablehlo(program)
    except ValueError as error:
        raise ValueError(
            f"the program in {folder} cannot be run: {error}; or pass `apply`, the function that "
            "was compressed"
        ) from error
