"""MiniLM-L6 pruned by Torch-Pruning, taught and judged as by `experiments.transformer`.

    python -m benchmarks.sentence_peer --weights-dir weights --data-dir sts_benchmark

Torch-Pruning's global pruner chooses heads and hidden channels of the PyTorch model; which ones it
kept is read off the kernels, whose rows stay as they were. One program teaches and judges all, with
the settings of the preset `minilm`. Needs `pip install torch torch-pruning transformers`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

import jaxcompress as jc
from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from experiments.common.stages import Stages
from experiments.transformer import run as transformer
from experiments.transformer.sentences import sentence_task
from experiments.transformer.settings import PRESETS
from experiments.transformer.task import Task
from jaxcompress.annotations import Json
from jaxcompress.files import write_json

__all__ = ["COMMAND", "Config", "main"]

BISECTIONS = 10
HEADS, SIZE = 12, 32


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        weights_dir: of the encoder.
        data_dir: of the STS benchmark.
        flops: share that may be left.
        recovery_steps: of the learning.
        workdir: where stages are kept.
        output: the rows.
    """

    weights_dir: Path = Path("weights")
    data_dir: Path = Path("sts_benchmark")
    flops: float = 0.5
    recovery_steps: int = PRESETS["minilm"][1].recovery.steps
    workdir: Path = Path("runs/sentence_peer")
    output: Path = Path("benchmarks/results/sentence_peer.json")


def kept(folder: Path, ratio: float) -> dict[str, np.ndarray]:
    """Remove a part of all heads and hidden channels at once, those of smallest norms."""
    import torch
    import torch_pruning as tp
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
    others = [m for m in network.modules() if isinstance(m, torch.nn.Linear) and m not in offered]
    one = torch.ones(1, SIZE, dtype=torch.long)
    pruner = tp.pruner.BasePruner(
        network,
        {"input_ids": one, "attention_mask": one},
        tp.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=ratio,
        max_pruning_ratio=0.95,
        ignored_layers=[*others, network.embeddings],
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
        hidden = _rows(before.intermediate.dense, after.intermediate.dense)
        keep[f"{name}/mlp_expand/kernel[1]"] = hidden
        query = _rows(before.attention.self.query, after.attention.self.query)
        by_head = query.reshape(HEADS, SIZE)
        assert (by_head == by_head[:, :1]).all(), f"{name}: heads went in part"
        keep[f"{name}/attention/key/kernel[1]"] = by_head[:, 0]
    return keep


def _rows(before: Any, after: Any) -> np.ndarray:
    old, new = (np.asarray(layer.weight.detach().numpy()) for layer in (before, after))
    left = (old[:, None] == new[None]).all(-1).any(1)
    assert left.sum() == len(new), "rows are no longer those of the original"
    return left


def chosen(config: Config, graph: jc.Graph) -> dict[str, np.ndarray]:
    """Bisect the ratio for the most FLOPs of our graph that fit."""
    limit, best = config.flops * graph.flops, None
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        keep = kept(config.weights_dir, middle)
        if float(graph.cost.flops(graph.cost.widths(keep))) <= limit:
            best, high = keep, middle
        else:
            low = middle
    if best is None:
        raise RuntimeError(f"Torch-Pruning does not reach {limit:,.0f} FLOPs")
    return best


def prune(config: Config, task: Task) -> dict[str, Json]:
    """Choose, shrink and save."""
    one = {name: array[:1] for name, array in task.sequences.items()}
    graph = jc.trace(task.apply, task.variables, one)
    keep = chosen(config, graph)
    compression = jc.shrink(graph, keep)
    variables = compression.variables(task.variables)
    jc.save(config.workdir / "peer", compression, variables, network=task.network)
    return {"kept": {name: int(mask.sum()) for name, mask in keep.items()}}


def main(config: Config) -> None:
    """Prune, teach, judge, and write the rows."""
    prepare()
    preset = PRESETS["minilm"][1]
    recovery = dataclasses.replace(preset.recovery, steps=config.recovery_steps)
    settings = dataclasses.replace(
        preset,
        weights_dir=config.weights_dir,
        data_dir=config.data_dir,
        workdir=config.workdir,
        recovery=recovery,
    )
    task = sentence_task(settings)
    student = transformer.Student("peer", "magnitude", config.flops)
    kept_settings = {"flops": config.flops, "steps": config.recovery_steps}
    with Stages(config.workdir, {"peer": kept_settings}, transformer.CONSOLE) as stages:
        folder = config.workdir / "knowledge"
        stages.run("knowledge", lambda: transformer.store_answers(task, folder), ["knowledge"])
        facts = stages.run("peer", lambda: prune(config, task), ["peer"])
        function, variables = jc.load(config.workdir / "peer", task.apply)
        rows = [transformer.row_of(task, "peer", function, variables, facts)]
        teach = lambda: transformer.teach(settings, task, student, function, variables)  # noqa: E731
        taught = stages.run("peer-taught", teach, ["peer-taught"])
        function, variables = jc.load(config.workdir / "peer-taught", task.apply)
        rows.append(transformer.row_of(task, "peer-taught", function, variables, taught))
    written = {"environment": describe(), "config": {"recovery_steps": config.recovery_steps}}
    write_json(
        config.output, {**written, "kept": facts["kept"], "rows": [r.to_json() for r in rows]}
    )


COMMAND = Command("benchmarks.sentence_peer", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
