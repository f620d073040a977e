"""Torch-Pruning's side of `benchmarks.importance`: its pruner chooses, one program measures all.

Only internal widths are offered: with option-A shortcuts, Torch-Pruning 1.6.1 fails on residual
streams ("index out of bounds"). Its pruner removes channels of a PyTorch network until the FLOPs
fit; which ones it kept is read off the kernels, whose rows stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning as tp
from safetensors.torch import load_file
from torch import nn

import jaxcompress as jc
from benchmarks.importance.task import Task

__all__ = ["CRITERIA", "TorchPruning"]

CRITERIA = {
    "l1": lambda: tp.importance.GroupMagnitudeImportance(p=1),
    "l2": lambda: tp.importance.GroupMagnitudeImportance(p=2),
    "taylor": lambda: tp.importance.GroupTaylorImportance(),
    "hessian": lambda: tp.importance.GroupHessianImportance(),
    "fpgm": lambda: tp.importance.FPGMImportance(),
    "lamp": lambda: tp.importance.LAMPImportance(),
    "bn_scale": lambda: tp.importance.BNScaleImportance(),
    "random": lambda: tp.importance.RandomImportance(),
}
BISECTIONS = 11
MEAN_IMAGES, SINGLE_IMAGES = 1024, 256


class Block(nn.Module):
    """Two convolutions beside a shortcut that subsamples and pads (option A)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.stride, self.pad = stride, (after - before) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[batch, before, h, w]` to `[batch, after, h / stride, w / stride]`."""
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.pad:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(h + x)


class ResNet(nn.Module):
    """A CIFAR ResNet of depth 6 n + 2, with the parameter names of akamaster's."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        blocks = (depth - 2) // 6
        for stage, width in enumerate((16, 32, 64), start=1):
            before = width if stage == 1 else width // 2
            first = Block(before, width, 1 if stage == 1 else 2)
            rest = [Block(width, width, 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[batch, 3, 32, 32]` to logits `[batch, 10]`."""
        h = F.relu(self.bn1(self.conv1(x)))
        h = self.layer3(self.layer2(self.layer1(h)))
        return self.linear(h.mean((2, 3)))

    def named_blocks(self) -> dict[str, Block]:
        """Return the blocks by the name that they have in `jaxcompress.models`."""
        stages = (self.layer1, self.layer2, self.layer3)
        return {
            f"stage{s}_block{b}": block
            for s, stage in enumerate(stages, start=1)
            for b, block in enumerate(stage)
        }


class TorchPruning:
    """Selects with Torch-Pruning's global pruner and returns keeps of our graph."""

    def __init__(self, folder: Path, network: str, task: Task) -> None:
        self._task, self._depth = task, int(network.removeprefix("resnet"))
        state = load_file(folder / "weights" / f"{network}_cifar10.safetensors")
        self._state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
        self._gradients: dict[tuple[str, int], dict[str, torch.Tensor]] = {}

    def prepare(self, criterion: str, seed: int) -> Callable[[jc.Budget], dict[str, np.ndarray]]:
        """Return `keep(budget)` for a criterion, its gradients computed."""
        if criterion in ("taylor", "hessian"):
            self._gradients = {(criterion, seed): self._compute(criterion == "hessian", seed)}
        return lambda budget: self._keep(criterion, budget, seed)

    def _keep(self, criterion: str, budget: jc.Budget, seed: int) -> dict[str, np.ndarray]:
        """Bisect Torch-Pruning's global ratio for the most FLOPs of our graph that fit."""
        graph = self._task.graph
        limit, best = budget.of(graph).flops or 0.0, None
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            keep = self._prune(criterion, middle, seed)
            if float(graph.cost.flops(graph.cost.widths(keep))) <= limit:
                best, high = keep, middle
            else:
                low = middle
        if best is None:
            raise RuntimeError(f"{criterion} does not reach {limit:,.0f} FLOPs")
        return best

    def _prune(self, criterion: str, ratio: float, seed: int) -> dict[str, np.ndarray]:
        """Remove this part of all internal channels at once, the least important ones."""
        torch.manual_seed(seed)
        network, whole = self._network(), self._network()
        importance = CRITERIA[criterion]()
        inner = {block.conv1 for block in network.named_blocks().values()}
        others = [
            module
            for module in network.modules()
            if isinstance(module, nn.Conv2d | nn.Linear) and module not in inner
        ]
        pruner = tp.pruner.BasePruner(
            network,
            torch.zeros(1, 3, 32, 32),
            importance,
            global_pruning=True,
            pruning_ratio=ratio,
            max_pruning_ratio=0.95,
            ignored_layers=others,
        )
        self._set_gradients(criterion, network, importance, seed)
        pruner.step()
        return self._kept(network, whole)

    def _network(self) -> ResNet:
        network = ResNet(self._depth)
        missing, unexpected = network.load_state_dict(self._state, strict=False)
        missing = [name for name in missing if not name.endswith("num_batches_tracked")]
        assert not missing and not unexpected, (missing, unexpected)
        return network.eval()

    def _set_gradients(self, criterion: str, network: ResNet, importance: Any, seed: int) -> None:
        """Leave the gradients at the whole network where Taylor and Hessian read them."""
        if criterion not in ("taylor", "hessian"):
            return
        for name, parameter in network.named_parameters():
            parameter.grad = self._gradients[criterion, seed][name].clone()
        if criterion == "hessian":
            importance.zero_grad()
            importance.accumulate_grad(network)

    def _compute(self, single: bool, seed: int) -> dict[str, torch.Tensor]:
        """Return the mean gradients or, of single examples, the roots of their mean squares."""
        batch = self._task.batches(jax.random.key(seed), SINGLE_IMAGES if single else MEAN_IMAGES)
        images = torch.from_numpy(np.array(batch["image"])).permute(0, 3, 1, 2).contiguous()
        labels = torch.from_numpy(np.array(batch["label"])).long()
        network = self._network()
        if not single:
            F.cross_entropy(network(images), labels).backward()
            return {name: p.grad.clone() for name, p in network.named_parameters()}
        squares = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
        for image, label in zip(images, labels, strict=True):
            network.zero_grad()
            F.cross_entropy(network(image[None]), label[None]).backward()
            for name, parameter in network.named_parameters():
                squares[name] += parameter.grad.square() / len(images)
        return {name: square.sqrt() for name, square in squares.items()}

    def _kept(self, network: ResNet, whole: ResNet) -> dict[str, np.ndarray]:
        """Find each remaining row of every first convolution among the original ones."""
        keep, originals = {}, whole.named_blocks()
        for name, block in network.named_blocks().items():
            before = originals[name].conv1.weight.detach().flatten(1).numpy()
            after = block.conv1.weight.detach().flatten(1).numpy()
            kept = (before[:, None] == after[None]).all(-1).any(1)
            assert kept.sum() == len(after), f"{name}: rows are no longer those of the original"
            keep[f"params/{name}/conv1/kernel[3]"] = kept
        return keep
