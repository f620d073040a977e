"""Low rank for the whole network at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from docs.markdown import command, load, percent, source, table

__all__ = ["FINAL", "METHODS", "NAMES", "by_budget", "page"]

FINAL = "experiments/results/rank_configuration_resnet56.json"
METHODS = "experiments/results/rank_methods_resnet56.json"
TUNED = "experiments/results/rank_tuned_resnet56.json"
LOSSLESS = "experiments/results/rank_lossless_resnet56.json"
TIMES = (
    "experiments/results/rank_times_resnet56.json",
    "experiments/results/rank_times_vgg16.json",
)
NAMES = {
    "sensitivity": "`sensitivity`, ours",
    "optimum": "exact `optimum` of energies, ours",
    "enc_model": "`enc_model`",
    "enc_map": "`enc_map`",
    "enc_inf": "`enc_inf`",
    "uniform": "uniform",
    "energy_threshold": "energy threshold",
    "evbmf": "EVBMF, scaled",
}
STEPS = ("factorized", "re-estimated", "compensated", "fine-tuned")

Row = Mapping[str, Any]


def by_budget() -> str:
    """Return the table of accuracies by budget, after each step."""
    rows = load(FINAL)["rows"]
    lines: list[list[str]] = [["100 %", f"{rows[0]['num_params']:,}", percent(rows[0]["accuracy"])]]
    lines[0] += [""] * (len(STEPS) - 1)
    for budget in sorted({row["final"] for row in rows if "final" in row}, reverse=True):
        matches = [row for row in rows if row.get("final") == budget]
        by_step = {row["name"].rsplit(", ", 1)[-1]: percent(row["accuracy"]) for row in matches}
        shown = [by_step.get(step, "") for step in STEPS]
        lines.append([percent(budget, 0), f"{matches[0]['num_params']:,}", *shown])
    return table(["FLOPs", "parameters", *STEPS], lines)


def _by_method(rows: Sequence[Row], pairs: Sequence[Mapping[str, Any]]) -> str:
    """Table methods against budgets; each cell shows the rows that the pairs pick."""
    known = [row for row in rows if "budget" in row]
    budgets = sorted({row["budget"] for row in known}, reverse=True)

    def cell(method: str, budget: float) -> str:
        matches = [row for row in known if (row["method"], row["budget"]) == (method, budget)]
        picked = [next(r for r in matches if wanted.items() <= r.items()) for wanted in pairs]
        return " / ".join(percent(row["accuracy"], 1) for row in picked)

    methods = {row["method"] for row in known}
    return table(
        ["ranks by", *(percent(budget, 0) for budget in budgets)],
        [[text, *(cell(m, b) for b in budgets)] for m, text in NAMES.items() if m in methods],
    )


def _times() -> str:
    lines = []
    for path in TIMES:
        result = load(path)
        for row in result["rows"]:
            images = row.get("images_seconds")
            lines.append(
                [result["config"]["model"], f"`{row['name']}`", f"{row['seconds']:.2f}"]
                + [f"{row['svd_seconds']:.2f}", "" if images is None else f"{images:.2f}"]
            )
    return table(["network", "search", "seconds", "singular values", "images"], lines)


def _whole_network() -> str:
    """Return the accuracies by budget, after each step."""
    rows = load(FINAL)["rows"]
    return f"""# Low rank, for the whole network at once

ResNet-56, {rows[0]["count"]:,} test images, **no labels and, but for the last column, no
fine-tuning**; 3 x 3 convolutions split into 3 x 1 and 1 x 3. Ranks minimise the expected squared
error of the logits under the budget; factors are weighted by input covariances and output
gradients, in closed form; `compensate` fits them again to the inputs that the factorized network
itself gives. {source(FINAL)} (ENC's own figure without fine-tuning, by ENC-Inf: 90.22 % of 93.1 %
at 50 %.)

{by_budget()}

{
        command(
            "python -m experiments.ranks resnet56 --weights resnet56_cifar10.safetensors",
            "--data-dir tensorflow_datasets --choice-images 256 --flops --methods --final 0.5 0.4",
            "--sweeps 2 --statistics-images 1024 --tuning.epochs 2 --tuning.train-images 10000",
        )
    }"""


def _every_method() -> str:
    """Return the ways to choose ranks, by what their factors know and by what follows."""
    rows, tuned = load(METHODS)["rows"], load(TUNED)
    count = rows[1]["count"]
    factors = [{"factors": name, "reestimated": True} for name in ("weights", "weighted")]
    steps = [{"step": name} for name in ("re-estimated", "fine-tuned")]
    return f"""## Every way to choose ranks

Factors of the weights alone / weighted by data, BatchNorm re-estimated, the first {count:,} test
images, of which the dense network classifies {percent(rows[0]["compared"], 1)}.
{source(METHODS)}

{_by_method(rows, factors)}

![Accuracy against FLOPs, by method](../../experiments/results/rank_methods_resnet56.png)

What the factors know matters more than how ranks are chosen. After re-estimation / after one epoch
of {tuned["config"]["tuning"]["train_images"]:,} images with the original's stored logits, factors
weighted by data. {source(TUNED)}

{_by_method(tuned["rows"], steps)}"""


def _lossless() -> str:
    """Return how far the budget falls before anything is lost."""
    dense, best = load(LOSSLESS)["rows"][:2]
    return f"""\
Nothing at all is lost, as measured on {best["count"]:,} test images ({percent(best["accuracy"])}
against {percent(best["baseline"])}) and without fine-tuning, down to
{percent(best["flops"] / dense["flops"], 1)} of the FLOPs. {source(LOSSLESS)}"""


def page() -> str:
    """Return the page."""
    return f"""{_whole_network()}

{_every_method()}

{_lossless()}

## Which sites, and which ranks

Without `forms`, `sites_of` takes the convolutions that ENC searches, and in a network without them
every kernel that two factors can make cheaper (`ranks.default_forms`). With `multiple_of=8` every
search returns multiples of 8, or leaves a site alone, within the budget.

## How long it takes

{_times()}

`python -m experiments.ranks digits` shows all of this in a minute, data and weights made on the
spot. The ranks that ENC's authors released for ResNet-56 come out of `enc_map` in every layer
(`python -m benchmarks.enc_fixture`).
"""
