"""PyTorch modules that are adapted in tests, with what is asked of them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.adapters import needs_torch  # isort: skip  # noqa: F401

import torch
from torch import nn

from jaxcompress.adapters import from_torch
from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.compression import Compression
from jaxcompress.graph import Graph, trace
from jaxcompress.prune import shrink

__all__ = [
    "INPUTS",
    "MODULES",
    "WIDTHS",
    "Adapted",
    "Attention",
    "Cnn",
    "Tied",
    "adapted",
    "run",
    "seeded",
]


class Cnn(nn.Module):
    """Convolution, BatchNorm, depthwise and grouped convolutions, GroupNorm, dropout, a head."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.depthwise_norm = nn.BatchNorm2d(8, momentum=0.3)
        self.point = nn.Conv2d(8, 8, 1)
        self.groups = nn.GroupNorm(4, 8)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(images)))
        x = nn.functional.silu(self.depthwise_norm(self.depthwise(x)))
        x = self.groups(self.point(x)).mean((2, 3))
        return self.head(self.dropout(x))


class Attention(nn.Module):
    """Heads of a fixed size, as many as the projections have."""

    def __init__(self, reads_heads: bool = True) -> None:
        super().__init__()
        self.heads, self.size, self.reads_heads = 4, 3, reads_heads
        self.query, self.key, self.value = (nn.Linear(8, 12) for _ in range(3))
        self.out = nn.Linear(12, 8)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        heads = -1 if self.reads_heads else self.heads
        return x.view(*x.shape[:2], heads, self.size).transpose(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (self.split(f(x)) for f in (self.query, self.key, self.value))
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Tied(nn.Module):
    """An embedding, attention, an MLP and a head that is the embedding; outputs by name."""

    def __init__(self, reads_heads: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.register_buffer("positions", 0.1 * torch.randn(6, 8), persistent=False)
        self.first, self.second = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention = Attention(reads_heads)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.embed(ids) + self.positions
        x = x + self.attention(self.first(x))
        return {"logits": self.head(x + self.mlp(self.second(x)))}


class Encoder(nn.Module):
    """PyTorch's own layer, whose attention stores its sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 4, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x))


GENERATOR = np.random.default_rng(0)
INPUTS: dict[str, Array] = {
    "Cnn": GENERATOR.standard_normal((4, 3, 7, 7), np.float32),
    "Tied": GENERATOR.integers(0, 11, (4, 6)),
    "Encoder": GENERATOR.standard_normal((4, 6, 8), np.float32),
}
MODULES: dict[str, type[nn.Module]] = {"Cnn": Cnn, "Tied": Tied, "Encoder": Encoder}
WIDTHS = {
    "Cnn": {"params/depthwise.weight[0]": 8, "params/point.weight[0]": 4},
    "Tied": {
        "params/attention.key.weight[0]": 4,
        "params/attention.out.weight[0]": 8,
        "params/mlp.0.weight[0]": 16,
    },
    "Encoder": {
        "params/layer.linear1.weight[0]": 16,
        "params/layer.self_attn.in_proj_weight[0]": 2,
    },
}


class Adapted(NamedTuple):
    """A module, what it is adapted to, its graph, and a removal from every group."""

    module: nn.Module
    inputs: Array
    apply: Function
    train: Function
    variables: PyTree
    graph: Graph
    keep: dict[str, np.ndarray]
    prune: Compression

    @property
    def gates(self) -> dict[str, jax.Array]:
        return {name: jnp.asarray(kept, jnp.float32) for name, kept in self.keep.items()}


def seeded(module: nn.Module) -> nn.Module:
    """Make every weight and statistic of a module a random number, none of them trivial."""
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.1 + 0.3 * torch.rand_like(tensor))
    return module


@functools.cache
def adapted(name: str) -> Adapted:
    """Adapt a module, trace it and remove from every group."""
    module, inputs = seeded(MODULES[name]()), INPUTS[name]
    apply, variables = from_torch(module)
    train, _ = from_torch(module, train=True)
    graph = trace(apply, variables, inputs)
    generator = np.random.default_rng(3)
    keep = {
        group: generator.permutation(one.width) < max(one.width // 2, 1)
        for group, one in graph.groups.items()
    }
    return Adapted(module, inputs, apply, train, variables, graph, keep, shrink(graph, keep))


def run(module: nn.Module, inputs: Array) -> Any:
    """Run a module in PyTorch, in its mode; return its outputs as NumPy arrays."""
    with torch.no_grad():
        outputs = module(torch.from_numpy(np.array(inputs)))
    tensors = outputs if isinstance(outputs, dict) else {"": outputs}
    arrays = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    return arrays if isinstance(outputs, dict) else arrays[""]
