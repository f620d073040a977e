"""Reports: what is written is valid, and what is invalid is named."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments.common.report import Row, latency_ms, validate, write_report
from experiments.common.table import table

# As they come out of a measurement: numbers of NumPy.
ACCURACY: Any = np.float32(0.97)
NUM_PARAMS: Any = np.int64(90_000)
ROWS = [
    Row("teacher", accuracy=0.98, num_params=270_000, flops=5_000_000, seconds=12.5),
    Row("student", accuracy=ACCURACY, num_params=NUM_PARAMS, extra={"epochs": 10}),
]
STAGES = [{"name": "teacher", "seconds": 12.5}]


@dataclasses.dataclass(frozen=True)
class Config:
    workdir: Path = Path("runs")
    seed: int = 0


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = write_report(tmp_path_factory.mktemp("run") / "new", "demo", Config(), ROWS, STAGES)
    assert {file.name for file in path.parent.iterdir()} == {"report.html", "report.json"}
    return json.loads(path.read_text())


def test_the_report_holds_everything(report: dict[str, Any]) -> None:
    validate(report)
    assert report["config"] == {"workdir": "runs", "seed": 0}
    assert report["stages"] == STAGES
    assert report["environment"]["versions"]["jax"] == jax.__version__
    teacher, student = report["rows"]
    assert teacher["latency_ms"] is None and teacher["num_params"] == 270_000
    assert student["epochs"] == 10 and student["accuracy"] == pytest.approx(0.97)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("rows", 0, "accuracy"), 98.0, "fraction, not per cent"),
        (("rows", 1, "accuracy"), float("nan"), "write null"),
        (("rows", 1, "name"), "teacher", "two are named 'teacher'"),
        (("rows", 0, "flops"), "5M", "flops is str"),
        (("rows", 0, "num_params"), -1, "num_params is negative"),
        (("environment", "device"), None, "device is NoneType"),
        (("rows",), {}, "rows is dict"),
        (("stages", 0, "seconds"), None, r"stages\[0\]: seconds is NoneType"),
        (("rows", 1, "details"), {"groups": [{}]}, r"rows\[1\]: details: .*name is missing"),
    ],
)
def test_offences_are_named(
    report: dict[str, Any], path: tuple[Any, ...], value: Any, message: str
) -> None:
    wrong = copy.deepcopy(report)
    place = wrong
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        validate(wrong)


def test_all_offences_are_told_at_once(report: dict[str, Any]) -> None:
    wrong = copy.deepcopy(report)
    wrong["rows"][0]["bytes"] = 1.5
    del wrong["rows"][1]["flops"]
    with pytest.raises(ValueError, match=r"rows\[0\]: bytes is float; rows\[1\]: flops is missing"):
        validate(wrong)


def test_extra_fields_do_not_hide_a_rows_own() -> None:
    with pytest.raises(ValueError, match="'student' gives .*flops"):
        Row("student", extra={"flops": 1}).to_json()


def test_the_table_leaves_out_what_nobody_measured() -> None:
    console = Console(file=io.StringIO(), width=120)
    table(ROWS, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "98.00%" in text and "270,000" in text and "MFLOPs" in text
    assert "kB on disk" not in text and "non-zero" not in text


def test_latency_waits_for_the_result() -> None:
    calls = []

    def function(x: jax.Array) -> jax.Array:
        calls.append(1)
        return x + 1

    assert latency_ms(function, jnp.ones(3), repeats=5) > 0
    assert len(calls) == 7
