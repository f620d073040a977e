"""What a run leaves: a row for each network, the artifact within its bytes, programs.

Calls are timed, and programs for other runtimes written and run, by the first process alone: they
are of one device, and the others' would only tell the same.
"""

from __future__ import annotations

from functools import partial

import numpy as np

import jaxcompress as jc
from experiments.common import report
from experiments.common.measure import count_nonzero
from experiments.compress.compiling import compiled
from experiments.compress.data import first_rows
from experiments.compress.exporting import exported, exported_file, program_of
from experiments.compress.integers import as_floats, portable
from experiments.compress.judging import judged
from experiments.compress.making import Made, Making, digest
from experiments.compress.methods import traced
from experiments.compress.model import Model
from experiments.compress.timed import latency_of
from jaxcompress import artifact
from jaxcompress.annotations import Batch, Json
from jaxcompress.processes import by_first, is_first
from jaxcompress.report import details

__all__ = ["exports", "final_artifact", "fulfilled", "row_of"]

LATENCY_BATCH = 64
EXPORT_SECONDS = 4 * 3600.0
"""How long others wait for the first, which alone runs other runtimes."""
ENCODINGS = (
    None,
    artifact.Encoding("exact"),
    artifact.Encoding("bfloat16"),
    artifact.Encoding("int8"),
)


def row_of(making: Making, made: Made, seconds: float) -> report.Row:
    """Judge, count and time one network, where that is not done.

    Args:
        making: what stages share.
        made: the network.
        seconds: it took to make.
    """
    task, model, table = making.task, made.model, making.table

    def work() -> dict[str, Json]:
        floats = as_floats(model, task.model)
        graph = traced(task, floats)
        batch = task.data.inputs(first_rows(task.data.test, LATENCY_BATCH))
        facts = judged(task, model, making.test_answers)
        if table is not None:
            facts["table_ms"] = latency_of(making, floats) / 1e3
        if model.compression.spec != jc.chain().spec:
            whole = making.graph, model.compression, task.model.variables
            facts["details"] = details(*whole, model.variables)
        return {
            **facts,
            "num_params": int(graph.params),
            "num_nonzero": count_nonzero(floats.variables),
            "flops": float(graph.flops),
            "latency_ms": by_first("timing", lambda: _time(model, batch)),
            "latency_batch": len(batch),
            "count": len(task.data.test["image"]),
        }

    known = making.stages.run(f"measure-{digest(made.key, made.name, making.times)}", work)
    names = ("accuracy", "num_params", "num_nonzero", "flops", "latency_ms")
    others = ("distance", "agreement", "latency_batch", "count", "table_ms", "details")
    return report.Row(
        name=made.name,
        bytes=made.facts["bytes"],
        seconds=seconds,
        **{name: known[name] for name in names},
        extra={name: known[name] for name in others if name in known},
    )


def _time(model: Model, batch: Batch) -> float:
    return report.latency_ms(compiled(model.apply), model.variables, batch, repeats=5)


def final_artifact(
    making: Making, made: Made, most: float | None
) -> tuple[Made, str, dict[str, int]]:
    """Save the last network by the mildest encoding within its bytes, and read it again.

    The bytes are without the program that it carries.

    Args:
        making: what stages share.
        made: the network.
        most: bytes it may take; None for as many as it does, as it is.

    Returns:
        The network as it was saved, the encoding's name, and the bytes of each that was tried.
    """
    model, whole, folder = made.model, making.task.model, making.config.workdir / "artifact"
    save = partial(
        jc.save,
        folder,
        jc.chain(whole.compression, model.compression),
        model.variables,
        network=model.network,
        metadata=_notes(making),
    )
    sizes: dict[str, int] = {}
    for encoding in ENCODINGS:
        name = "as it is" if encoding is None else encoding.values
        save(encoding=encoding)
        # As the first sees it: it may write the next one before a late one has looked.
        sizes[name] = by_first("bytes", lambda: artifact.num_bytes(folder))
        is_enough = sizes[name] <= most if most is not None else encoding is None
        if is_enough:
            break
    if "stablehlo" in making.config.exports:
        program, said = program_of(model, _some_inputs(making)) if is_first() else (None, None)
        if said is not None:
            making.console.print(f"stablehlo: {said}", markup=False)
        save(encoding=encoding, program=program)
    function, like = whole.origin or (whole.apply, whole.variables)
    _, variables = jc.load(folder, function, like=like)
    key = digest(made.key, "artifact", name)
    facts = {**made.facts, "bytes": sizes[name]}
    saved = Made(f"artifact, {name}", model._replace(variables=variables), key, facts, "artifact")
    return saved, name, sizes


def exports(making: Making, last: Made) -> list[dict[str, Json]]:
    """Write the programs that were asked for, run them, and print how far each is off."""
    names: list[str] = [name for name in making.config.exports if name != "stablehlo"]
    if artifact.inspect(making.config.workdir / "artifact")["program"] is not None:
        names = ["stablehlo", *names]

    def work() -> dict[str, Json]:
        inputs, folder = _some_inputs(making), making.config.workdir
        model = portable(last.model, making.task.model)
        known = by_first(
            "programs",
            lambda: exported(model, inputs, names, folder, stage),
            seconds=EXPORT_SECONDS,
        )
        return {"rows": known}

    # Other budgets of one work folder have files of their own.
    stage = f"exports-{digest(last.key, *names)}"
    files = [exported_file(name, stage) for name in names if name != "stablehlo"]
    rows: list[dict[str, Json]] = making.stages.run(stage, work, files)["rows"]
    if files:
        making.console.print(f"exports: {' '.join(str(making.config.workdir / f) for f in files)}")
    for row in rows:
        making.console.print(
            f"{row['format']}: {row['bytes'] / 1e3:,.0f} kB, {row['latency_ms']:.1f} ms for "
            f"{row['batch']} examples, off by {row['relative_error']:.1e} of the largest output"
        )
    return rows


def _some_inputs(making: Making) -> np.ndarray:
    data = making.task.data
    return np.asarray(data.inputs(first_rows(data.test, LATENCY_BATCH)))


def _notes(making: Making) -> dict[str, Json]:
    pixels = making.task.data.inputs
    notes = {"model": making.config.model, "channels_first": pixels.is_first}
    return notes | {"mean": list(pixels.mean), "std": list(pixels.std)}


def fulfilled(
    kind: str, asked: float, whole: report.Row, last: report.Row, size: int
) -> dict[str, Json]:
    """Say what of the budget is met.

    Args:
        kind: of cost.
        asked: the share of the whole network that may be left.
        whole: the whole network's row.
        last: that of what is left.
        size: bytes of its artifact.
    """
    values = {
        "flops": ((last.flops or 0), (whole.flops or 1)),
        "params": ((last.num_params or 0), (whole.num_params or 1)),
        "bytes": (size, (whole.bytes or 1)),
        "latency": (last.extra.get("table_ms", 0), whole.extra.get("table_ms", 1)),
    }
    left, all_of_it = values[kind]
    remedies = {
        "bytes": "add the stage sparse, or lower flops or params",
        "latency": "add the stage prune",
    }
    remedy = remedies.get(kind, "add the stage prune or low_rank")
    # Budgets in numbers are shares times floats: the last bit does not count.
    is_met = left <= asked * all_of_it * (1 + 1e-9)
    return {"asked": asked, "is": left / all_of_it, "met": is_met, "remedy": remedy}
