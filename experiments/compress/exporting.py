"""The last network as programs for other runtimes, each run on test examples and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np

import jaxcompress as jc
from experiments.common.report import latency_ms
from experiments.common.runtimes import RUNTIMES
from experiments.compress.model import Model
from jaxcompress import artifact
from jaxcompress.annotations import Array, Json
from jaxcompress.files import atomic_file

__all__ = ["exported", "exported_file", "program_of"]

Call = Callable[[np.ndarray], Array]
ENDINGS = {"onnx": "onnx", "litert": "tflite"}


def program_of(model: Model, inputs: np.ndarray) -> tuple[bytes | None, str | None]:
    """Return the network as a StableHLO program, or why there is none.

    Args:
        model: the network.
        inputs: examples; how many there are may differ from call to call where the network allows.
    """
    said = None
    for batch_axis in (0, None):
        try:
            arguments = model.apply, model.variables, inputs
            program = artifact.export_stablehlo(*arguments, batch_axis=batch_axis)
        except ValueError as error:
            said = said or str(error)
        else:
            only = None if batch_axis == 0 else f"for {len(inputs)} examples a call alone: {said}"
            return program, only
    return None, said


def exported_file(name: str, stage: str) -> str:
    """Name the file of a format that a stage puts beside the artifact."""
    return f"{stage}.{ENDINGS[name]}"


def exported(
    model: Model, inputs: np.ndarray, names: Sequence[str], folder: Path, stage: str
) -> list[dict[str, Json]]:
    """Write each program, run it by its own runtime, and say how far it is from the network.

    Args:
        model: the network.
        inputs: examples.
        names: of the formats; of "stablehlo" the artifact in the folder is run.
        folder: where files go.
        stage: what they are named after.
    """
    expected = np.asarray(jax.jit(model.apply)(model.variables, inputs))
    rows = []
    for name in names:
        call, size = _written(model, inputs, name, folder, stage)
        difference = np.abs(np.asarray(call(inputs)) - expected).max()
        rows.append(
            {
                "format": name,
                "bytes": size,
                "relative_error": float(difference / max(np.abs(expected).max(), 1e-30)),
                "latency_ms": latency_ms(call, inputs, repeats=5),
                "batch": len(inputs),
            }
        )
    return rows


def _written(
    model: Model, inputs: np.ndarray, name: str, folder: Path, stage: str
) -> tuple[Call, int]:
    """Return what runs a program, and its bytes."""
    if name == "stablehlo":
        function, variables = jc.load(folder / "artifact")
        size = artifact.inspect(folder / "artifact")["program"]["size"]
        return partial(jax.jit(function), variables), size
    ready = RUNTIMES[name](model.apply, model.variables, inputs)
    content = ready.file or b""
    with atomic_file(folder / exported_file(name, stage)) as file:
        file.write(content)
    return ready.call, len(content)
