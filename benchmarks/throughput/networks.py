"""The networks of `benchmarks.throughput` in PyTorch, with the widths of the weights they load.

Built from a state dict's shapes: a shrunk network has other widths in every block. Names are those
of akamaster's ResNets, chengyangfu's VGG and torchvision's ResNet-50.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["build"]

State = Mapping[str, torch.Tensor]
STAGES_VGG16 = (2, 2, 3, 3, 3)


def convolution(state: State, name: str, stride: int = 1) -> nn.Conv2d:
    """A convolution with the shape of its weights, padded as ours."""
    out, into, size, _ = state[f"{name}.weight"].shape
    bias = f"{name}.bias" in state
    return nn.Conv2d(into, out, size, stride, size // 2, bias=bias)


def norm(state: State, name: str) -> nn.BatchNorm2d:
    """A BatchNorm with the width of its weights."""
    return nn.BatchNorm2d(len(state[f"{name}.weight"]))


class Block(nn.Module):
    """A residual block: two convolutions or, as in ResNet-50, three."""

    def __init__(self, state: State, name: str, stride: int) -> None:
        super().__init__()
        self.count = 3 if f"{name}.conv3.weight" in state else 2
        strided = 2 if self.count == 3 else 1
        for number in range(1, self.count + 1):
            conv_stride = stride if number == strided else 1
            setattr(self, f"conv{number}", convolution(state, f"{name}.conv{number}", conv_stride))
            setattr(self, f"bn{number}", norm(state, f"{name}.bn{number}"))
        self.stride, self.downsample = stride, None
        last = state[f"{name}.conv{self.count}.weight"].shape[0]
        self.pad = (last - state[f"{name}.conv1.weight"].shape[1]) // 2
        if f"{name}.downsample.0.weight" in state:
            parts = convolution(state, f"{name}.downsample.0", stride)
            self.downsample = nn.Sequential(parts, norm(state, f"{name}.downsample.1"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the convolutions' result to the shortcut's."""
        h = F.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        if self.count == 3:
            h = self.bn3(self.conv3(F.relu(h)))
        if self.downsample is not None:
            x = self.downsample(x)
        elif self.pad:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(h + x)


class ResNet(nn.Module):
    """A residual network for 32x32 images, or ResNet-50."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.large = "fc.weight" in state
        self.conv1 = convolution(state, "conv1", 2 if self.large else 1)
        self.bn1 = norm(state, "bn1")
        self.stages = 4 if self.large else 3
        for stage in range(1, self.stages + 1):
            count = len({n.split(".")[1] for n in state if n.startswith(f"layer{stage}.")})
            first = 1 if stage == 1 else 2
            blocks = [
                Block(state, f"layer{stage}.{b}", first if b == 0 else 1) for b in range(count)
            ]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        name = "fc" if self.large else "linear"
        out, into = state[f"{name}.weight"].shape
        setattr(self, name, nn.Linear(into, out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[batch, 3, height, width]` to logits."""
        h = F.relu(self.bn1(self.conv1(x)))
        if self.large:
            h = F.max_pool2d(h, 3, 2, 1)
        for stage in range(1, self.stages + 1):
            h = getattr(self, f"layer{stage}")(h)
        head = self.fc if self.large else self.linear
        return head(h.mean((2, 3)))


class VGG(nn.Module):
    """VGG-16 for 32x32 images."""

    def __init__(self, state: State) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for count in STAGES_VGG16:
            for _ in range(count):
                layers += [convolution(state, f"features.{len(layers)}"), nn.ReLU()]
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        dense = [nn.Linear(*reversed(state[f"classifier.{n}.weight"].shape)) for n in (1, 4, 6)]
        self.classifier = nn.Sequential(
            nn.Dropout(), dense[0], nn.ReLU(), nn.Dropout(), dense[1], nn.ReLU(), dense[2]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `[batch, 3, 32, 32]` to logits."""
        return self.classifier(self.features(x).flatten(1))


def build(state: State) -> nn.Module:
    """Build the network that a state dict belongs to and load it, strictly."""
    network = VGG(state) if "features.0.weight" in state else ResNet(state)
    missing, unexpected = network.load_state_dict(dict(state), strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"the weights do not fit: {missing=} {unexpected=}")
    return network
