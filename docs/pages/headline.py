"""The README's one table: a figure of each method, and where it comes from."""

from __future__ import annotations

from docs.markdown import load, percent, spread, table
from docs.pages.pruning import RESNET56, test_values

__all__ = ["table_of_figures"]

RANKS = "experiments/results/rank_configuration_resnet56.json"
SLIMNETS = "experiments/results/slimnets_published.json"
MINILM = "experiments/results/transformer_minilm.json"
KNOWLEDGE = "experiments/results/knowledge_ablation_cpu.json"


def _pruned() -> list[str]:
    values = test_values(load(RESNET56)["rows"], "augmented")
    ours = values["jaxcompress", "learned", "internal", 0.5]
    theirs = max(
        (sum(v) / len(v), key[1])
        for key, v in values.items()
        if key[0] == "torch-pruning" and key[3] == 0.5
    )
    return [
        "half of the FLOPs by pruned channels, no fine-tuning",
        f"{spread(ours)} %",
        f"Torch-Pruning's best, {theirs[1].upper()}: {theirs[0]:.2f} %",
        "[pruning]({folder}/pruning.md)",
    ]


def _factorized() -> list[str]:
    rows = {row["name"]: row for row in load(RANKS)["rows"]}
    whole = "sensitivity, weighted, 50%, factorized, re-estimated, compensated"
    return [
        "half of the FLOPs by low rank, no fine-tuning, no labels",
        percent(rows[whole]["accuracy"]),
        "ENC's own: 90.22 % of 93.1 %",
        "[ranks]({folder}/ranks.md)",
    ]


def _small() -> list[str]:
    row = next(r for r in load(SLIMNETS)["rows"] if r["name"] == "resnet20-170x")
    return [
        f"masks, int8 and a teacher: {row['bytes']:,} bytes, ResNet-20",
        percent(row["accuracy"]),
        "SlimNets: 88.69 % at twice the non-zeros",
        "[slimnets]({folder}/slimnets.md)",
    ]


def _taught() -> list[str]:
    result = load(KNOWLEDGE)
    rows, config = {row["name"]: row for row in result["rows"]}, result["config"]["config"]
    length = f"{config['train_images']:,} images, {config['student_epochs']} epochs"
    return [
        f"half of ResNet-20 taught by stored answers, {length}",
        percent(rows["crossed"]["accuracy"]),
        f"by a live teacher: {percent(rows['live']['accuracy'])}; "
        f"by labels: {percent(rows['none']['accuracy'])}",
        "[knowledge]({folder}/knowledge.md)",
    ]


def _encoder() -> list[str]:
    rows = {row["name"]: row["score"] for row in load(MINILM)["rows"]}
    return [
        "half of the FLOPs of MiniLM-L6 by low rank, no labels: Spearman's correlation, STS-B dev",
        f"{rows['low_rank-0.5']:.3f}; taught, {rows['low_rank-0.5-taught']:.3f}",
        f"whole: {rows['whole']:.3f}; Torch-Pruning: {rows['torch_pruning-0.5']:.3f}, "
        f"{rows['torch_pruning-0.5-taught']:.3f}",
        "[transformers]({folder}/transformers.md)",
    ]


def table_of_figures(folder: str = "docs/results") -> str:
    """Return the table, with links to the pages of results in a folder."""
    head = [
        "CIFAR-10, ResNet-56 where nothing else is said",
        "accuracy",
        "beside it",
        "all figures",
    ]
    rows = [_pruned(), _factorized(), _small(), _taught(), _encoder()]
    return table(head, [[*cells, link.format(folder=folder)] for *cells, link in rows])
