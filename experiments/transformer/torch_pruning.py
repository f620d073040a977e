"""Torch-Pruning's choice for MiniLM: its global pruner, by norms of the PyTorch model's kernels.

Which heads and hidden channels it kept is read off the kernels, whose rows stay as they were, so
that one program teaches and judges its networks and ours.
Needs `pip install torch torch-pruning transformers`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import jaxcompress as jc

__all__ = ["torch_pruned"]

BISECTIONS = 10
HEADS, SIZE = 12, 32


def torch_pruned(folder: Path, graph: jc.Graph, share: float) -> dict[str, np.ndarray]:
    """Bisect the pruner's ratio for the most FLOPs of our graph that fit; return keeps.

    Args:
        folder: of the weights, as Hugging Face lays them out.
        graph: of the encoder.
        share: of its FLOPs that may be left.

    Raises:
        ValueError: if no ratio fits.
    """
    limit, best = share * graph.flops, None
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        keep = _kept(folder, middle)
        if float(graph.cost.flops(graph.cost.widths(keep))) <= limit:
            best, high = keep, middle
        else:
            low = middle
    if best is None:
        raise ValueError(f"Torch-Pruning reaches no {limit:,.0f} FLOPs; ask for a larger share")
    return best


def _kept(folder: Path, ratio: float) -> dict[str, np.ndarray]:
    """Remove a part of all heads and hidden channels at once, those of smallest norms."""
    import torch
    import torch_pruning
    from transformers import BertModel

    load: Any = BertModel.from_pretrained
    network, whole = (load(folder, attn_implementation="eager").eval() for _ in range(2))
    layers = network.encoder.layer
    heads = {
        getattr(layer.attention.self, name): HEADS
        for layer in layers
        for name in ("query", "key", "value")
    }
    offered = {*heads, *(layer.intermediate.dense for layer in layers)}
    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    one = torch.ones(1, SIZE, dtype=torch.long)
    pruner = torch_pruning.pruner.BasePruner(
        network,
        {"input_ids": one, "attention_mask": one},
        torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=ratio,
        max_pruning_ratio=0.95,
        ignored_layers=[*(m for m in linear if m not in offered), network.embeddings],
        num_heads=heads,
        prune_num_heads=True,
        prune_head_dims=False,
        head_pruning_ratio=ratio,
        output_transform=lambda outputs: outputs.last_hidden_state,
    )
    pruner.step()
    return _keep(network, whole)


def _keep(network: Any, whole: Any) -> dict[str, np.ndarray]:
    """Find the rows that are left among the original ones, as keeps of our graph."""
    keep = {}
    pairs = zip(network.encoder.layer, whole.encoder.layer, strict=True)
    for number, (after, before) in enumerate(pairs):
        name = f"params/layer{number}"
        keep[f"{name}/mlp_expand/kernel[1]"] = _rows(
            before.intermediate.dense, after.intermediate.dense
        )
        query = _rows(before.attention.self.query, after.attention.self.query)
        by_head = query.reshape(HEADS, SIZE)
        if (by_head != by_head[:, :1]).any():
            raise ValueError(f"whole heads are wanted, but those of {name} went in part")
        keep[f"{name}/attention/key/kernel[1]"] = by_head[:, 0]
    return keep


def _rows(before: Any, after: Any) -> np.ndarray:
    """Tell which rows of a kernel are left."""
    old, new = (layer.weight.detach().numpy() for layer in (before, after))
    left: np.ndarray = (old[:, None] == new[None]).all(-1).any(1)
    if left.sum() != len(new):
        raise ValueError("rows of a pruned kernel are those of the original, but some are not")
    return left
