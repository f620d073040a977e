"""Programs that run elsewhere: how they are made, their bytes, errors and latencies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docs.markdown import command, load, source, table

__all__ = ["PATH", "page", "sizes"]

PATH = "benchmarks/results/exports.json"
NAMES = {
    "pruned": "ResNet-20, {flops:.0%} of the FLOPs by pruned channels",
    "factorized": "ResNet-20, {flops:.0%} of the FLOPs by low rank",
    "sparse": "ResNet-20, {sparsity:.0%} of the weights zero",
    "vit": "ViT-Tiny, {flops:.0%} of the FLOPs by pruned channels",
}
RUNTIMES = {
    "jax": "jitted JAX",
    "jax, fast_convolutions": "jitted JAX, `fast_convolutions`",
    "stablehlo": "StableHLO, loaded by JAX",
    "onnx": "ONNX, by onnxruntime",
    "litert": "LiteRT, by its interpreter",
}
GUIDE = """With `small` the compressed variables, `function = compression.function(apply)` and
`images` a batch:

```python
from pathlib import Path

import jaxcompress as jc

program = jc.artifact.export_stablehlo(function, small, images)
jc.save("small", compression, small, program=program)
function, small = jc.load("small")  # anywhere JAX runs, without the model's code
Path("small.onnx").write_bytes(jc.artifact.export_onnx(function, small, images))
Path("small.tflite").write_bytes(jc.artifact.export_litert(function, small, images))
```

The StableHLO program takes the variables, so that an artifact holds their numbers once, also where
they are stored as int8. It is for CPU, CUDA and TPU, takes batches of any size, and names no file
of the machine that wrote it. JAX promises to read it for six months: keep the model's code for
longer. It is code: load it only from whom you trust.

ONNX and LiteRT models hold the variables as well. ONNX takes batches of any size; LiteRT the shapes
of `images` alone. Their converters need an environment of their own, see
[CONTRIBUTING.md](../../CONTRIBUTING.md). int8 in an artifact is how numbers are stored: these
models compute in float32 with the rounded weights.

What cannot leave is refused with its line: callbacks and prints, kernels of one compiler (so export
the function without `backend.fast_convolutions`), shapes that depend on values, and code that needs
the batch as a number (`batch_axis=None` exports the shapes of `images`)."""


def page() -> str:
    """Return the page."""
    result = load(PATH)
    config = result["config"]
    versions = {name: v for name, v in result["environment"]["versions"].items() if v}
    packages = ("jax2onnx", "onnxruntime", "litert-converter", "ai-edge-litert")
    listed = ", ".join(f"{name} {versions[name]}" for name in packages if name in versions)
    return "\n\n".join(
        [
            "# Programs that run elsewhere",
            GUIDE,
            "## Bytes",
            "Of whole files; an artifact with a program holds both, as int8 too. The error of "
            "int8 is the largest difference of a logit, over the largest logit.",
            sizes(result["rows"], config),
            "## Errors and latencies",
            f"Over {config['test_images']} test images of CIFAR-10: the largest difference of a "
            "logit from the function's, over the largest logit. Latencies are the shortest of "
            f"{config['repeats']} calls, all runtimes in turns, on two cores that were busy with "
            "other work: jitted JAX and the loaded StableHLO are one program, and their latencies "
            f"differ by a factor of up to {_noise(result['rows']):.1f}, so smaller differences say "
            "nothing.",
            *(_runs(row, config) for row in result["rows"]),
            command("python -m benchmarks.exports --data-dir ."),
            "The transformer's weights are drawn, ResNet-20's public; scores are magnitudes, ranks "
            f"uniform. {source(PATH)} {listed}.\n",
        ]
    )


def _noise(rows: list[Mapping[str, Any]]) -> float:
    """Return how far latencies of one and the same program differ."""
    ratios = []
    for row in rows:
        measured = {(r["runtime"], r["batch_size"]): r["latency_ms"] for r in row["runs"]}
        for runtime, size in measured:
            if runtime == "stablehlo":
                ratio = measured["jax", size] / measured["stablehlo", size]
                ratios.append(max(ratio, 1 / ratio))
    return max(ratios)


def _title(row: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    return NAMES[row["network"]].format(**config)


def sizes(rows: list[Mapping[str, Any]], config: Mapping[str, Any]) -> str:
    """Return the table of bytes."""
    head = ["network", "values", "artifact", "with program", "the same, int8", "error of int8"]
    lines = []
    for row in rows:
        files = {run["runtime"]: run["bytes"] for run in row["runs"]}
        stored = [row["bytes"][name] for name in ("artifact", "with_program", "int8")]
        exported = [files.get(name) for name in ("stablehlo", "onnx", "litert")]
        numbers = [f"{n:,}" if n else "" for n in (row["params"], *stored)]
        others = [f"{n:,}" if n else "" for n in exported]
        lines.append([_title(row, config), *numbers, f"{row['int8_error']:.1%}", *others])
    return table([*head, "StableHLO", "ONNX", "LiteRT"], lines)


def _runs(row: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    sizes = config["batch_sizes"]
    lines = []
    for runtime, name in RUNTIMES.items():
        measured = {r["batch_size"]: r for r in row["runs"] if r["runtime"] == runtime}
        if measured:
            error = max(run["error"] for run in measured.values())
            latencies = [f"{measured[size]['latency_ms']:.2f} ms" for size in sizes]
            lines.append([name, f"{error:.1e}", *latencies])
    head = [_title(row, config), "error", *(f"batch of {size}" for size in sizes)]
    return table(head, lines)
