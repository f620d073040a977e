"""The parts with figures on pages that are written by hand, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any

from docs.markdown import load, percent, source, spread, table
from docs.pages import exports as exported
from docs.pages import (
    headline,
    knowledge,
    pruning,
    quantization,
    ranks,
    slimnets,
    sources,
    tests,
    throughput,
    tpu,
)
from docs.pages import recipes as doors

__all__ = ["PARTS"]

ARCHITECTURES = "benchmarks/results/torch_architectures.json"
REACH = "benchmarks/results/generality.json"
PRUNED = ("learned", "fisher", "l2", "taylor", "random")


def _reach() -> str:
    """Return how far the analysis goes on architectures of others."""
    rows = [row for row in load(ARCHITECTURES)["rows"] if "law" in row]
    every = len(load(ARCHITECTURES)["rows"])
    largest = load(REACH)["networks"]["llama_7b"]
    worst = max(row["law"] for row in rows)
    return (
        f"Of {every} public architectures of Hugging Face's `transformers`, in PyTorch, "
        f"{len(rows)} trace; in all of these removing half of every group equals masking it, to "
        f"{worst:.0e} of the largest output ([PyTorch modules](results/pytorch.md)). LLaMA-7B, "
        f"traced without its numbers, has {largest['groups']} groups, found in "
        f"{largest['seconds']:.0f} seconds ([transformers](results/transformers.md))."
    )


def _pruned() -> str:
    rows = load(pruning.RESNET56)["rows"]
    values = pruning.test_values(rows, "augmented")
    ratios = (0.6, 0.5, 0.4, 0.3)
    names = [("jaxcompress", m, pruning.OURS[m]) for m in PRUNED]
    names += [("torch-pruning", m, f"Torch-Pruning: {m}") for m in ("fpgm", "l2", "taylor")]
    lines = [
        [text, *(spread(values[library, method, "internal", ratio]) for ratio in ratios)]
        for library, method, text in names
    ]
    head = ["accuracy in percent, right after pruning", *(percent(r, 0) for r in ratios)]
    environment = load(pruning.RESNET56)["settings"]["environment"]
    count = load(pruning.RESNET56)["settings"]["test_images"]
    return (
        f"{table(head, lines)}\n\nResNet-56 on CIFAR-10, widths inside blocks, BatchNorm "
        f"re-estimated, no fine-tuning, {count:,} test images; columns are what is left of the "
        f"FLOPs. {source(pruning.RESNET56, environment)}"
    )


def _low_rank() -> str:
    count = load(ranks.FINAL)["rows"][0]["count"]
    return f"{ranks.by_budget()}\n\nResNet-56, {count:,} test images. {source(ranks.FINAL)}"


def _ranks() -> str:
    rows = [row for row in load(ranks.METHODS)["rows"] if "budget" in row]
    names = ("sensitivity", "enc_map", "enc_inf", "uniform", "evbmf")

    def cell(method: str, budget: float, factors: str) -> str:
        wanted = {"method": method, "budget": budget, "factors": factors, "reestimated": True}
        return percent(next(r["accuracy"] for r in rows if wanted.items() <= r.items()), 1)

    lines = [
        [ranks.NAMES[m], *(cell(m, b, f) for f in ("weights", "weighted") for b in (0.5, 0.3))]
        for m in names
    ]
    head = ["ranks by", "weights, 50 %", "weights, 30 %", "by data, 50 %", "by data, 30 %"]
    return f"{table(head, lines)}\n\n{source(ranks.METHODS)}"


def _masks() -> str:
    return f"{doors.calibrated()}\n\n{source(doors.CALIBRATED)}"


def _taught() -> str:
    rows = {row["name"]: row for row in load(knowledge.ABLATION)["rows"]}
    names = ("none", "logits", "views", "crossed", "live")
    lines = [
        [knowledge.NAMES[n], percent(rows[n]["accuracy"]), f"{rows[n]['epoch_cpu_seconds']:.1f}"]
        for n in names
    ]
    head = ["taught by", "accuracy, mean of two seeds", "CPU s per epoch"]
    config = load(knowledge.ABLATION)["config"]["config"]
    return (
        f"{table(head, lines)}\n\nThe half of ResNet-20, {config['train_images']:,} training "
        f"images, {config['student_epochs']} epochs. {source(knowledge.ABLATION)}"
    )


def _files() -> str:
    result = load(exported.PATH)
    return f"{exported.sizes(result['rows'], result['config'])}\n\n{source(exported.PATH)}"


def _together() -> str:
    wanted = ("accuracy", "num_params", "num_nonzero", "bytes")
    lines = []
    for row in load(slimnets.PUBLISHED)["rows"]:
        accuracy, *numbers = (row[key] for key in wanted)
        lines.append([f"`{row['name']}`", percent(accuracy), *(f"{n:,}" for n in numbers)])
    head = ["network", "accuracy", "parameters", "non-zeros", "bytes on disk"]
    return f"{table(head, lines)}\n\n{source(slimnets.PUBLISHED)}"


def _devices() -> str:
    names = {_device(load(path)) for path in sources.result_files()} - {""}
    described = sorted(name for name in names if "compiled for" in name)
    ran = ", ".join(sorted(names - set(described)))
    said = f"Every figure that was run, was run on: {ran}."
    if described:
        said += " What is given for other devices was compiled, not run ([time](results/tpu.md))."
    return said


def _device(result: Mapping[str, Any]) -> str:
    known = result.get("environment") or result.get("settings", {}).get("environment", {})
    return str(known.get("device", "")).split(",")[0]


def _speed() -> str:
    whole: dict[str, float] = {}
    half: dict[str, float] = {}
    for case in load(throughput.PATH)["cases"]:
        what = case["case"]
        if what["task"] == "eval" and what["batch"] in (16, 128):
            seconds = case["seconds"]["jaxcompress"]["fast"]
            (half if what["half"] else whole)[what["name"]] = median(seconds)
    gains = [whole[name] / seconds for name, seconds in half.items()]
    return (
        f"Half of the FLOPs is {min(gains):.1f} to {max(gains):.1f} times the images per second "
        f"in evaluation, with `fast_convolutions`, on {len(gains)} networks "
        "([speed](results/throughput.md))."
    )


def _latency() -> str:
    """Return what budgets of FLOPs and of latency are worth on a TPU, by its compiler."""
    return f"{tpu.budgets()}\n\n{source(tpu.BUDGET).replace('../../', '../')}"


PARTS: dict[str, Callable[[], str]] = {
    "headline": headline.table_of_figures,
    "figures": partial(headline.table_of_figures, "results"),
    "coverage": tests.sentence,
    "reach": _reach,
    "pruned": _pruned,
    "low rank": _low_rank,
    "ranks": _ranks,
    "masks": _masks,
    "quantized": quantization.quantized,
    "taught": _taught,
    "files": _files,
    "together": _together,
    "devices": _devices,
    "speed": _speed,
    "latency": _latency,
    "sources": sources.table_of_sources,
}
