"""The throughput benchmark: cases, table, weights written for PyTorch, and PyTorch's own side."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from benchmarks.throughput import cases, ours, run, settings, table
from benchmarks.throughput.worker import _prepare

KINDS = {"compile": True, "bfloat16": True}
CASE: dict[str, Any] = {"name": "resnet8", "half": True, "task": "stored", "batch": 4}


@pytest.fixture(scope="module", autouse=True)
def smaller() -> Iterator[None]:
    """Let the benchmark know a ResNet of fewer layers than those that it times."""
    tables: Any = (cases.SIZES, cases.CLASSES, cases.RENAMES, cases.PROTECT)
    with pytest.MonkeyPatch.context() as patch:
        for table_ in tables:
            patch.setitem(table_, "resnet8", table_["resnet20"])
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a small case."""
    path = tmp_path_factory.mktemp("case")
    cases.export(cases.Case(**CASE), path)
    return path


def measured() -> list[dict[str, Any]]:
    case = {"name": "resnet20", "half": True, "task": "train", "batch": 100}
    first = {
        "jaxcompress": {"first": {"jit": 3.0}},
        "PyTorch": {"first": {"eager": 1.0, "amp": 1.0, "compile": "RuntimeError: no compiler"}},
    }
    seconds = {"jaxcompress": {"jit": [1.0, 1.0, 1.0]}, "PyTorch": {"eager": [4.0], "amp": [2.0]}}
    return [{"case": case, "frameworks": first, "seconds": seconds}]


def test_the_ratio_is_to_the_best_pytorch_variant_that_ran() -> None:
    rows = {row["variant"]: row for row in table.rows(measured())}
    assert rows["jit"]["ratio"] == 2.0 and rows["amp"]["ratio"] == 1.0
    assert rows["eager"]["rate"] == 25.0 and rows["jit"]["spread"] == 0.0
    assert "rate" not in rows["compile"]


def test_the_table_shows_rates_and_why_a_variant_did_not_run() -> None:
    text = io.StringIO()
    Console(file=text, width=140).print(table.table(table.rows(measured())))
    lines = text.getvalue().splitlines()
    (jit,) = [line for line in lines if "jaxcompress jit" in line]
    assert "resnet20 half" in jit and "2.00" in jit and "1000.0" in jit
    assert any("PyTorch compile" in line and "no compiler" in line for line in lines)


def test_only_shrunk_networks_are_fine_tuned() -> None:
    config = settings.Config(networks=("resnet20", "resnet50"), latency=(1, 128))
    listed = settings.cases(config)
    assert all(case["half"] for case in listed if case["task"] in ("stored", "live"))
    assert {case["batch"] for case in listed if case["name"] == "resnet20"} == {1, 128}
    # No case twice, though batch 128 is also that of plain evaluation.
    assert len({json.dumps(case) for case in listed}) == len(listed)


@pytest.mark.parametrize("error", [2e-4, float("nan")])
def test_logits_that_differ_stop_the_benchmark(error: float) -> None:
    with pytest.raises(AssertionError, match="before anything is timed"):
        run._check("PyTorch", CASE, error)


@pytest.mark.parametrize("name", ["resnet20", "vgg16", "resnet50"])
def test_every_leaf_has_a_name_in_pytorch(name: str) -> None:
    size = cases.SIZES[name]
    module = cases.models.build(name)
    variables = jax.eval_shape(
        lambda: cases.models.initialize(module, jax.random.key(0), (1, size, size, 3))
    )
    leaves = cases.flatten_with_paths(variables)[0]
    assert leaves.keys() <= cases.torch_names(name).keys()


def test_half_of_the_flops_in_whole_streams(folder: Path) -> None:
    flops = json.loads((folder / "flops.json").read_text())
    assert 0.4 < flops["own"] / flops["dense"] <= 0.5
    full, half = (cases.network("resnet8", True, dtype) for dtype in (None, jnp.bfloat16))
    assert full.variables["params"]["stage1_block0"]["conv2"]["kernel"].shape[3] == 16
    shapes = [jax.tree.map(jnp.shape, each.variables) for each in (full, half)]
    assert shapes[0] == shapes[1]


def test_a_variant_that_fails_is_reported_and_left_out() -> None:
    def fail() -> None:
        raise RuntimeError("no compiler")

    variants: dict[str, Callable[[], None] | str] = {
        "good": lambda: None,
        "bad": fail,
        "elsewhere": "it is for CPUs",
    }
    prepared = ours.Prepared(1e-6, variants)
    calls, answer = _prepare(
        lambda case, kinds, folder: prepared, {"case": CASE, "kinds": KINDS, "folder": "."}
    )
    assert list(calls) == ["good"] and answer["logits_error"] == 1e-6
    assert answer["first"]["bad"] == "RuntimeError: no compiler"
    assert answer["first"]["elsewhere"] == "it is for CPUs"


def test_our_side_prepares_and_runs(tmp_path: Path) -> None:
    prepared = ours.prepare({**CASE, "task": "live"}, KINDS, tmp_path)
    assert prepared.logits_error < run.TOLERANCE
    assert sorted(prepared.variants) == ["bfloat16", "bfloat16 fast", "fast", "jit"]
    call = prepared.variants["jit"]
    assert not isinstance(call, str), call
    call()


def test_pytorch_agrees_and_runs(folder: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from benchmarks.throughput import pytorch

    prepared = pytorch.prepare(CASE, {**KINDS, "compile": False}, folder)
    assert prepared.logits_error < run.TOLERANCE
    for call in prepared.variants.values():
        assert not isinstance(call, str), call
        call()


@pytest.mark.parametrize("name", ["vgg16", "resnet50"])
def test_pytorch_networks_agree(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from benchmarks.throughput.networks import build

    jax_network = cases.network(name, half=True)
    size = cases.SIZES[name]
    images = np.random.default_rng(0).normal(size=(1, size, size, 3)).astype(np.float32)
    state = cases.torch_state(name, jax_network.variables)
    network = build({key: torch.from_numpy(value) for key, value in state.items()}).eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    wanted = np.asarray(jax.jit(jax_network.apply)(jax_network.variables, images))
    assert np.abs(logits - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_kinds_that_are_not_asked_for_are_not_made(tmp_path: Path) -> None:
    prepared = ours.prepare(CASE, {**KINDS, "bfloat16": False}, tmp_path)
    assert list(prepared.variants) == ["jit", "fast"]
