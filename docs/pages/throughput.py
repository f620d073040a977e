"""Images per second and latency beside PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from docs.markdown import command, load, source, table

__all__ = ["BEFORE", "PATH", "page"]

PATH = "benchmarks/results/throughput_amd_epyc_with_avx2_2_threads.json"
BEFORE = "benchmarks/results/throughput_amd_epyc_2_threads.json"
"""Of a processor with AVX-512, before gradients of kernels went by parts."""
PROFILE = "benchmarks/results/cpu_convolutions.json"
DEPTHWISE = "benchmarks/results/depthwise.json"
LOOPS = "benchmarks/results/loops.json"
PAGES = "benchmarks/results/pages.json"
OURS = {
    "jit": ("jit",),
    "`fast_convolutions`": ("fast",),
    "the same, bfloat16": ("bfloat16 fast",),
}
THEIRS = {
    "PyTorch, channels last": ("channels_last",),
    "`torch.compile`": ("compile", "compile channels_last"),
    "AMP": ("amp",),
    "AMP, compiled": ("amp compile",),
}
NETWORKS = {
    "resnet20": "ResNet-20",
    "resnet56": "ResNet-56",
    "vgg16": "VGG-16",
    "resnet50": "ResNet-50, 224 x 224",
}
TASKS = {
    "train": "training",
    "stored": "training on stored logits",
    "live": "training with a live teacher",
    "eval": "evaluation",
}

Case = Mapping[str, Any]


def _cases(path: str) -> list[Case]:
    return list(load(path)["cases"])


def _rate(case: Case, framework: str, variants: Iterable[str]) -> float | None:
    """Return the images per second of the fastest of some variants; None where none was run."""
    measured = case["seconds"][framework]
    rates = [case["case"]["batch"] / median(measured[v]) for v in variants if v in measured]
    return max(rates, default=None)


def _ratio(case: Case) -> float:
    best = [_rate(case, name, case["seconds"][name]) for name in ("jaxcompress", "PyTorch")]
    ours, theirs = (rate for rate in best if rate is not None)
    return ours / theirs


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}"


def _name(case: Case) -> str:
    what = case["case"]
    half = ", half the FLOPs" if what["half"] else ""
    return f"{NETWORKS[what['name']]}{half}, {TASKS[what['task']]}"


def _rates(path: str) -> str:
    order = {name: place for place, name in enumerate((*NETWORKS, *TASKS))}
    wide = [case for case in _cases(path) if case["case"]["batch"] in (16, 128)]
    wide.sort(key=lambda c: (order[c["case"]["name"]], order[c["case"]["task"]], c["case"]["half"]))
    lines = []
    for case in wide:
        ours = [_number(_rate(case, "jaxcompress", variants)) for variants in OURS.values()]
        theirs = [_number(_rate(case, "PyTorch", variants)) for variants in THEIRS.values()]
        batch, ratio = case["case"]["batch"], f"{_ratio(case):.2f}"
        lines.append([_name(case), batch, *ours, *theirs, ratio])
    return table(["", "batch", *OURS, *THEIRS, "ratio"], lines)


def _milliseconds(case: Case | None, framework: str, variants: Sequence[str]) -> str:
    if case is None:
        return ""
    known = [case["seconds"][framework][v] for v in variants if v in case["seconds"][framework]]
    return f"{1000 * min(median(seconds) for seconds in known):.1f}"


def _latency() -> str:
    cases = {
        (case["case"]["name"], case["case"]["half"], case["case"]["batch"]): case
        for case in _cases(BEFORE)
        if case["case"]["task"] == "eval" and case["case"]["batch"] not in (16, 128)
    }
    lines = []
    for name, batch in sorted({(name, batch) for name, _, batch in cases}):
        cells = [
            _milliseconds(cases.get((name, half, batch)), framework, variants)
            for framework, variants in (
                ("jaxcompress", ("fast",)),
                ("PyTorch", ("eager", "channels_last")),
            )
            for half in (False, True)
        ]
        lines.append([NETWORKS[name], batch, *cells])
    head = ["network", "images per call", "whole", "half", "PyTorch, whole", "PyTorch, half"]
    return table(head, lines)


def _profile() -> str:
    profiles = load(PROFILE)["profiles"]
    parts = profiles["fast"]["milliseconds"]
    return table(["part of a step", "ms"], [[name, f"{ms:.0f}"] for name, ms in parts.items()])


def _depthwise() -> str:
    result = load(DEPTHWISE)
    lines = []
    for row in result["rows"]:
        name = "MobileNetV2 for CIFAR-10, a training step"
        if "size" in row:
            size, stride = row["size"], row["stride"]
            name = f"{size} x {size}, {row['channels']} channels, stride {stride}, both gradients"
        plain, fast = row["plain_seconds"], row["fast_seconds"]
        lines.append([name, f"{1e3 * plain:,.0f}", f"{1e3 * fast:,.0f}", f"{plain / fast:.1f}"])
    head = [
        f"{result['config']['batch_size']} images",
        "XLA's, ms",
        "shifted products, ms",
        "ratio",
    ]
    return table(head, lines)


def _loops() -> str:
    head = ["", "`jax.jit`, s", "`fast_convolutions`, s", "ratio", "largest difference"]
    lines = []
    for row in load(LOOPS)["rows"]:
        plain, fast = row["plain_seconds"], row["fast_seconds"]
        seconds = [f"{plain:.1f}", f"{fast:.2f}", f"{plain / fast:.0f}"]
        lines.append([row["name"], *seconds, f"{row['error']:.0e}"])
    return table(head, lines)


def _pages() -> str:
    head = ["memory", "processor ms a step", "of them in the kernel", "pages a step"]
    lines = []
    for row in load(PAGES)["rows"]:
        times = [f"{1000 * row[name]:.0f}" for name in ("seconds", "kernel_seconds")]
        lines.append([row["kind"], *times, f"{row['pages']:,.0f}"])
    return table(head, lines)


def page() -> str:
    """Return the page."""
    return _beside_pytorch() + _of_a_step()


def _beside_pytorch() -> str:
    return f"""# Speed

Images per second; the frameworks in turns, same weights, logits compared; "ratio": our best over
PyTorch's best of the row; – was not measured. bfloat16 is emulated without AVX-512. {source(PATH)}

{_rates(PATH)}

{
        command(
            'python -m pip install ".[experiments,bench]" && python -m benchmarks.throughput',
            "--resume --rounds 3 --steps 6 --seconds 2 --no-bfloat16 --latency --tasks train eval",
            "--networks resnet20 # then resnet56 vgg16, with --no-compile",
        )
    }

Both frameworks ask the system for pages of 2 MB there (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`). A
step's arrays are new memory each time, and the kernel hands it out in pages; ResNet-20, 128 images,
in turns: {source(PAGES)}

{_pages()}

Before gradients of kernels went by parts, on a processor with AVX-512, in small pages:
{source(BEFORE)}

{_rates(BEFORE)}

What shrinking to half of the FLOPs does to latency: float32 with `fast_convolutions`, milliseconds
a call; beside it PyTorch's best in float32, channels last or not, without `torch.compile`:

{_latency()}

"""


def _of_a_step() -> str:
    loops = load(LOOPS)["config"]
    return f"""`jax.jit(jaxcompress.backend.fast_convolutions(step))` rewrites a whole step to call
the oneDNN kernels that jaxlib's CPU build carries and XLA does not select; elsewhere it changes
nothing. Where the processor time of a step of ResNet-20 goes: {source(PROFILE)}

{_profile()}

Convolutions inside loops are replaced too, where XLA's own gradients are slowest
([jax#12868](https://github.com/jax-ml/jax/issues/12868)). {loops["steps"]} steps of
{loops["batch_size"]} images of ResNet-20 in `jax.lax.scan`, and the gradient of the last loss
through all of them (a meta-gradient), processor time: {source(LOOPS)}

{_loops()}

{command("python -m benchmarks.loops")}

Depthwise convolutions, of one channel a group, are no oneDNN calls there: they become sums of
shifted products, their kernels' gradients a loop over examples. Processor time, taken beside other
work on the same cores: {source(DEPTHWISE)}

{_depthwise()}

{command("python -m benchmarks.depthwise")}
"""
