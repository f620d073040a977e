"""The check that a saved student answers the same where nothing but the library is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from jaxcompress.annotations import Function, PyTree

__all__ = ["check_fresh_process"]

FRESH = """
import sys, numpy, jax, jaxcompress
function, variables = jaxcompress.load(sys.argv[1])
inputs = numpy.load(sys.argv[2])
numpy.save(sys.argv[3], numpy.asarray(jax.jit(function)(variables, inputs)))
"""


def check_fresh_process(
    folder: Path, apply: Function, variables: PyTree, images: np.ndarray
) -> None:
    """Raise unless the artifact, loaded in a new process, gives the same logits bit for bit.

    Args:
        folder: of the artifact.
        apply: the network in this process, in evaluation mode.
        variables: its variables.
        images: normalised, `[n, height, width, channels]`.
    """
    inputs, outputs = folder.parent / "inputs.npy", folder.parent / "outputs.npy"
    np.save(inputs, images)
    arguments = [sys.executable, "-c", FRESH, str(folder), str(inputs), str(outputs)]
    subprocess.run(arguments, check=True)
    here, there = np.asarray(jax.jit(apply)(variables, images)), np.load(outputs)
    if not np.array_equal(here, there):
        raise AssertionError(f"logits differ by up to {np.abs(here - there).max()}")
