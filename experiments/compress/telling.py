"""The end of a run: table, what of the budget is met, report, how to load, and warnings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from experiments.common import report
from experiments.common.table import table
from experiments.compress.making import Making

__all__ = ["finish"]

ORIGINS = {
    "NNX": "apply, variables = jaxcompress.adapters.from_nnx(make())",
    "Equinox": "apply, variables = jaxcompress.adapters.from_equinox(make())",
    "PyTorch": "apply, variables = jaxcompress.adapters.from_torch(make())",
    "Linen": "apply(variables, inputs) is the module in evaluation mode, variables the whole ones",
    "function": "apply and variables are what the model's function returns",
}
"""What is loaded with, by the kind of model."""


def finish(
    making: Making, rows: Sequence[report.Row], met: Mapping[str, Any], notes: Mapping[str, Any]
) -> None:
    """Print the table and what of the budget is met; write the report; say how to load."""
    console, config = making.console, making.config
    table(rows, console)
    _warn_of_chance(making, rows[0])
    for row in rows[1:]:
        agreement = row.extra.get("agreement")
        agreed = "" if agreement is None else f", of {agreement:.1%} they agree"
        console.print(
            f"{row.name}: distance {row.extra['distance']:.4g} from the whole network's answers to "
            f"{row.extra['count']} test examples{agreed}"
        )
    for kind, facts in met.items():
        verdict = "met" if facts["met"] else f"NOT met: {facts['remedy']}"
        console.print(
            f"{kind}: {facts['is']:.3f} of the whole, {facts['asked']:g} asked: {verdict}"
        )
    _warn_of_time(making, rows)
    settings = {**dataclasses.asdict(config), "met": dict(met), **notes}
    path = report.write_report(config.workdir, "compress", settings, rows)
    console.print(f"report: {path}\nartifact: {config.workdir / 'artifact'}")
    folder = str(config.workdir / "artifact")
    is_code_free = making.task.model.network or any(
        one["format"] == "stablehlo" for one in notes["exports"]
    )
    if is_code_free:
        console.print(f"load it: function, variables = jc.load({folder!r})", soft_wrap=True)
    if not making.task.model.network:
        origin = ORIGINS[making.task.model.kind]
        console.print(
            f"to train on: jc.load({folder!r}, apply, like=variables), where {origin}",
            soft_wrap=True,
        )


def _warn_of_time(making: Making, rows: Sequence[report.Row]) -> None:
    """Say so where FLOPs fall and time does not."""
    whole, last = rows[0], rows[-1]
    before, after = whole.latency_ms, last.latency_ms
    if before is None or after is None or (last.flops or 0) >= (whole.flops or 0):
        return
    if after >= before:
        making.console.print(
            f"FLOPs fell and time did not: {before:.2f} ms before, {after:.2f} ms after, for "
            f"{last.extra['latency_batch']} examples on {jax.devices()[0].device_kind}; aim at "
            "time, for example by --budget latency=0.5"
        )


def _warn_of_chance(making: Making, row: report.Row) -> None:
    """Say so where labels seem to be numbered otherwise than outputs."""
    data = making.task.data
    if row.accuracy is not None and row.accuracy < 2 / data.num_classes:
        making.console.print(
            f"the whole network is right about {row.accuracy:.1%}, like chance among "
            f"{data.num_classes} classes: are its outputs numbered as the labels are, and its "
            "inputs scaled as in its training (--mean, --std)?"
        )
