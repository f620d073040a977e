"""Networks in integers: accuracy, bytes and latency by how they are quantized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docs.markdown import load, percent, source, table

__all__ = ["PATH", "quantized"]

PATH = "benchmarks/results/quantization_resnet20.json"
NAMES = {
    "float32": "float32",
    "int8 file": '`Encoding("int8")` of the file, computed in float32',
    "int8 kernels": 'int8, `activations="float"`',
    "int8, static": '**int8, `"static"`, the default**',
    "int8, dynamic": 'int8, `"dynamic"`',
    "int4 kernels": 'int4, `activations="float"`',
    "int4 kernels, cut off": "the same, `candidates=13`",
    "int4, static": 'int4, `"static"`',
    "int4, static, trained": "the same, {steps} steps of training, no labels",
}
NETWORKS = {"whole": "ResNet-20", "half": "half of its FLOPs by `low_rank`"}


def quantized() -> str:
    """Return the table of all ways, and what it was measured on."""
    result = load(PATH)
    config = result["config"]
    lines = [_line(row, config) for row in result["rows"]]
    batches = config["latency_batches"]
    head = ["network", "kernels and inputs", "accuracy", "bytes on disk"]
    head += [f"ms, {size} image{'s' * (size > 1)}" for size in batches]
    integers = [row["agreement"] for row in result["rows"] if "agreement" in row]
    return (
        f"{table(head, lines)}\n\nCIFAR-10, {config['test_images']:,} test images, of the rounded "
        f"floats; of {config['integer_images']} the integers themselves say the same of "
        f"{percent(min(integers), 1)} or more. Latencies are the shortest of {config['repeats']} "
        "calls on a machine that others used too, the better one without and with "
        f"`fast_convolutions`. {source(PATH)}"
    )


def _line(row: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    known = row.get("latency_ms", {})
    times = [
        min((known[key] for key in (f"{size}", f"{size} fast") if key in known), default=None)
        for size in config["latency_batches"]
    ]
    size = row["bytes"].get("as it is", row["bytes"]["exact"])
    return [
        NETWORKS[row["network"]],
        NAMES[row["way"]].format(steps=config["steps"]),
        percent(row["accuracy"]),
        f"{size:,}",
        *("" if time is None else f"{time:.1f}" for time in times),
    ]
