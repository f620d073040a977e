"""Which channels go: importance, right after pruning and after recovery, beside Torch-Pruning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from docs.markdown import command, load, percent, source, spread, table
from docs.pages import absorbing

__all__ = ["OURS", "RESNET56", "page", "test_values"]

RESNET56 = "benchmarks/results/importance_resnet56.json"
RESNET20 = "benchmarks/results/importance_resnet20_10k.json"
RECOVERED = "benchmarks/results/importance_resnet20_recovered.json"
MEMORY = "benchmarks/results/meta_memory.json"
COMMAND = "experiments/results/prune_resnet56_learned.json"

Key = tuple[str, str, str, float]
OURS = {
    "learned": "**learned gates**, the default",
    "fisher_iterative": "masked Fisher, in five rounds",
    "fisher": "masked Fisher",
    "meta": "meta-gradient at gates 1, one inner step",
    "meta_first_order": "the same, first order",
    "l2": "L2 norm",
    "l1": "L1 norm",
    "taylor": "Taylor",
    "random": "random",
    "learned_temperature_1": "learned gates, answers at temperature 1",
    "learned_64": "learned gates, batches of 64",
    "learned_192": "learned gates, batches of 192",
    "learned_60_inner_first": "learned gates, 60 updates, one inner step, first order",
}
THEIRS = ("fpgm", "l2", "l1", "bn_scale", "taylor", "hessian", "random", "lamp")
INNER = {
    "learned": "learned, 120 updates, no inner step",
    "learned_60": "learned, 60 updates, no inner step",
    "learned_60_inner_first": "one inner step, first order",
    "learned_60_inner": "one inner step, second order",
    "learned_60_inner_layers": "the same, a rate per layer",
    "fisher": "masked Fisher",
    "l2": "L2 norm",
}


def test_values(rows: Sequence[Mapping[str, Any]], form: str) -> dict[Key, list[float]]:
    """Collect test accuracies in percent over seeds, by library, method, groups and ratio."""
    values: dict[Key, list[float]] = defaultdict(list)
    for row in rows:
        if form in row["test"]:
            key = row["library"], row["method"], row["groups"], row["ratio"]
            values[key].append(row["test"][form])
    return values


def _seconds(rows: Sequence[Mapping[str, Any]], library: str, method: str) -> str:
    seconds = [r["cpu_seconds"] for r in rows if (r["library"], r["method"]) == (library, method)]
    return f"{sum(seconds) / len(seconds):.0f}"


def _environment(path: str) -> str:
    return source(path, load(path)["settings"]["environment"])


def _table(path: str, forms: Sequence[str], groups: str) -> str:
    rows = load(path)["rows"]
    ratios = sorted({row["ratio"] for row in rows}, reverse=True)
    values = {form: test_values(rows, form) for form in forms}

    def cell(library: str, method: str, ratio: float) -> str:
        parts = [values[form].get((library, method, groups, ratio)) for form in forms]
        return " / ".join(spread(part) if part else "–" for part in parts) if any(parts) else "–"

    known = {(row["library"], row["method"]) for row in rows if row["groups"] == groups}
    names = [("jaxcompress", method, text) for method, text in OURS.items()]
    names += [("torch-pruning", method, f"Torch-Pruning: {method}") for method in THEIRS]
    return table(
        ["importance", *(f"{percent(r, 0)} of the FLOPs" for r in ratios), "CPU seconds"],
        [
            [text, *(cell(library, method, r) for r in ratios), _seconds(rows, library, method)]
            for library, method, text in names
            if (library, method) in known
        ],
    )


def _recovered() -> str:
    rows = load(RECOVERED)["rows"]
    ratios = sorted({row["ratio"] for row in rows}, reverse=True)
    before, after = test_values(rows, "augmented"), test_values(rows, "recovered")

    def cell(method: str, ratio: float) -> str:
        key = ("jaxcompress", method, "internal", ratio)
        return f"{spread(before[key], 1)} / {spread(after[key], 1)}"

    def seeds(method: str) -> int:
        return len({row["seed"] for row in rows if row["method"] == method})

    return table(
        ["", "seeds", *(percent(ratio, 0) for ratio in ratios), "CPU seconds"],
        [
            [text, seeds(method), *(cell(method, ratio) for ratio in ratios)]
            + [_seconds(rows, "jaxcompress", method)]
            for method, text in INNER.items()
        ],
    )


def _memory() -> str:
    rows = load(MEMORY)["rows"]
    return table(
        ["inner steps", "order", "bytes", "of a plain training step"],
        [[r["steps"], r["order"], f"{r['bytes']:,}", f"{r['times_plain']:.2f}x"] for r in rows],
    )


def _without_training() -> str:
    """Return the accuracies right after pruning the larger network, by importance."""
    wide, run = load(RESNET56)["settings"], load(COMMAND)
    dense, last = run["rows"][0], run["rows"][-1]
    return f"""# Which channels go

ResNet-56 ({percent(dense["accuracy"])}) on CIFAR-10, widths inside blocks, **no fine-tuning**,
{wide["test_images"]:,} test images; BatchNorm statistics re-estimated on
{wide["estimation_images"]:,} training images, augmented / plain. Mean and standard deviation where
there are several seeds. Seconds are processor time to score and select, compiling included.
{_environment(RESNET56)}

{_table(RESNET56, ("augmented", "plain"), "internal")}

![Accuracy against FLOPs, by importance](../../benchmarks/results/importance_resnet56.png)

{
        command(
            "python -m benchmarks.importance --network resnet56 --seeds 0 --output importance.json",
            "--methods learned fisher fisher_iterative meta l1 l2 taylor hessian fpgm lamp random",
        )
    }

`python -m experiments.prune` with its default gives {percent(last["accuracy"])} at
{percent(last["flops"] / dense["flops"], 1)} of the FLOPs ([`{COMMAND}`](../../{COMMAND})).

Learned gates start from masked Fisher and take 120 steps on a per-group and a per-channel offset of
the scores; the loss is the distance to the dense network's own answers at temperature 4, and only
Fisher's start sees labels. Batch size and temperature were settled by test accuracy of one or two
seeds at 50 %: held-out training images cannot tell, the network knows them by heart. The gates are
our reconstruction of meta-learned gate importance, of which only an abstract is public."""


def _smaller() -> str:
    """Return the accuracies of the smaller network, without and with residual streams."""
    return f"""## ResNet-20

The same way, augmented re-estimation only. {
        source(RESNET20, load(RESNET20)["settings"]["environment"])
    }

{_table(RESNET20, ("augmented",), "internal")}

With residual streams in the choice too:

{_table(RESNET20, ("augmented",), "all")}"""


def _inner_step() -> str:
    """Return what a training step inside the gates' gradient adds, and what it costs."""
    settings = load(RECOVERED)["settings"]
    return f"""## What an inner training step adds

The gates' gradient taken through `jax.grad` of a step of the weights on other images. ResNet-20,
right after pruning / after {settings["recovery_steps"]} steps of training on the dense network's
answers. {_environment(RECOVERED)}

{_recovered()}

**The meta step does not pay for its time**: second order takes longer and gains nothing right after
pruning; first order gains about what two seeds differ by. As a score on its own, at gates 1, the
meta-gradient is no better than a norm: per image, the gradients of a converged network tell
something (masked Fisher squares them one by one), their mean over a batch little. So the default
takes no inner step, and `learn(..., support)` is there for those who want one.

Memory of one episode, ResNet-20. {source(MEMORY)}

{_memory()}"""


def _wishes() -> str:
    """Say what else may be wished for beside the budget."""
    return """\
## Widths that are wanted

`select`, `threshold`, `iterative` and `recipes.prune` take the same wishes beside the budget, which
always holds. `multiple_of=8` makes axes of kernels multiples of 8: of heads of 16 lanes any number
may go (`prune.channel_steps`). `min_share` and `max_share` bound the part of a group that is kept,
by a number or `{pattern: share}` of names. `uniform=True` keeps the same share of every group,
the largest that fits. What cannot be reached is refused by group before anything is scored."""


def page() -> str:
    """Return the page."""
    return f"""{_without_training()}

{_smaller()}

{_inner_step()}

{absorbing.section()}

{_wishes()}
"""
