"""PyTorch's side of `benchmarks.throughput`.

Variants: `eager`; `channels_last`; `compile` and `compile channels_last` with `torch.compile`;
`amp` is bfloat16 autocast over channels-last tensors, and `amp compile`. On a GPU cuDNN picks its
fastest algorithms and may use TF32, as JAX does by default.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from benchmarks.throughput.networks import build
from benchmarks.throughput.worker import Side
from jaxcompress.annotations import Json

__all__ = ["Prepared", "prepare", "start"]

TEMPERATURE, WEIGHT = 4.0, 0.5


class Variant(NamedTuple):
    """How PyTorch runs a network."""

    channels_last: bool = False
    compiled: bool = False
    amp: bool = False


VARIANTS = {
    "eager": Variant(),
    "channels_last": Variant(channels_last=True),
    "compile": Variant(compiled=True),
    "compile channels_last": Variant(channels_last=True, compiled=True),
    "amp": Variant(channels_last=True, amp=True),
    "amp compile": Variant(channels_last=True, compiled=True, amp=True),
}


class Prepared(NamedTuple):
    """See `benchmarks.throughput.worker.Prepared`."""

    logits_error: float
    variants: Mapping[str, Callable[[], None] | str]


class Files(NamedTuple):
    """What the case's folder holds, on the device."""

    device: str
    networks: dict[str, torch.nn.Module]
    images: torch.Tensor
    labels: torch.Tensor
    logits: dict[str, torch.Tensor]


def start(threads: int, device: str) -> Side:
    """Limit PyTorch to these threads, and return what prepares a case on cpu or gpu."""
    torch.set_num_threads(threads)
    return functools.partial(prepare, device={"cpu": "cpu", "gpu": "cuda"}[device])


def prepare(
    case: dict[str, Json], kinds: Mapping[str, bool], folder: Path, device: str = "cpu"
) -> Prepared:
    """Load the case's files, compare logits, and make its variants, but for kinds not asked for."""
    files = _load(folder, device)
    variants = {
        name: _call(case["task"], files, variant)
        for name, variant in VARIANTS.items()
        if (kinds["compile"] or not variant.compiled) and (kinds["bfloat16"] or not variant.amp)
    }
    return Prepared(_logits_error(files), variants)


def _load(folder: Path, device: str) -> Files:
    images = torch.from_numpy(np.load(folder / "images.npy")).permute(0, 3, 1, 2).contiguous()
    paths = {path.stem: path for path in folder.glob("*.safetensors")}
    return Files(
        device,
        {role: build(load_file(path)).to(device) for role, path in paths.items()},
        images.to(device),
        torch.from_numpy(np.load(folder / "labels.npy")).long().to(device),
        {r: torch.from_numpy(np.load(folder / f"{r}_logits.npy")).to(device) for r in paths},
    )


@torch.no_grad()
def _logits_error(files: Files) -> float:
    """Return the largest difference to JAX's logits, relative to the largest logit."""
    _allow_tf32(False)
    errors = []
    for role, network in files.networks.items():
        wanted = files.logits[role]
        logits = network.eval()(files.images)
        errors.append(float((logits - wanted).abs().max() / wanted.abs().max()))
    _allow_tf32(True)
    return max(errors)


def _allow_tf32(allow: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow
    torch.backends.cudnn.benchmark = allow


def _call(task: str, files: Files, variant: Variant) -> Callable[[], None]:
    """Return a call that runs one step and waits for it."""
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    images = files.images.clone(memory_format=layout)
    networks = {
        role: copy.deepcopy(network).to(memory_format=layout)
        for role, network in files.networks.items()
    }
    runs = {r: torch.compile(n) if variant.compiled else n for r, n in networks.items()}
    amp = torch.autocast(files.device, torch.bfloat16, enabled=variant.amp)
    if task == "eval":
        return _evaluation(networks["student"], runs["student"], images, amp, files.device)
    optimizer = torch.optim.SGD(
        networks["student"].parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4
    )

    def call() -> None:
        networks["student"].train()
        optimizer.zero_grad()
        with amp:
            logits = runs["student"](images)
            target = _target(task, files, runs, networks, images)
        _loss(logits.float(), files.labels, target).backward()
        optimizer.step()
        _wait(files.device)

    return call


def _evaluation(
    network: Any, run: Any, images: torch.Tensor, amp: Any, device: str
) -> Callable[[], None]:
    network.eval()

    def call() -> None:
        with torch.no_grad(), amp:
            run(images)
        _wait(device)

    return call


def _target(
    task: str, files: Files, runs: Any, networks: Any, images: torch.Tensor
) -> torch.Tensor | None:
    """Return the teacher's logits, stored or computed now."""
    if task == "stored":
        return files.logits["teacher"]
    if task == "train":
        return None
    networks["teacher"].eval()
    with torch.no_grad():
        return runs["teacher"](images).float()


def _loss(logits: torch.Tensor, labels: torch.Tensor, target: torch.Tensor | None) -> torch.Tensor:
    value = F.cross_entropy(logits, labels)
    if target is None:
        return value
    log_probabilities = F.log_softmax(logits / TEMPERATURE, 1)
    taught = F.kl_div(log_probabilities, F.softmax(target / TEMPERATURE, 1), reduction="batchmean")
    return (1 - WEIGHT) * value + WEIGHT * TEMPERATURE**2 * taught


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
