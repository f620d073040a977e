"""Methods alone and in sequence at equal cost: what holds of SlimNets' claim."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from docs.markdown import Result, command, load, percent, source, spread, table

__all__ = ["NAMES", "claim", "page", "verdict"]

ROOT = Path(__file__).parents[2]
NAMES = {
    "ResNet-20": "experiments/results/combined_resnet20.json",
    "ResNet-56": "experiments/results/combined_resnet56.json",
}
STEPS = ("right after", "taught")
KINDS = {"bytes": "bytes on disk", "flops": "FLOPs"}
HEAD = ["way", "budget", *STEPS, "front of bytes", "of FLOPs", "bytes", "FLOPs", "non-zeros"]


def _way(way: str) -> str:
    return ", then ".join(f"`{step}`" for step in way.split("-"))


def _rows(rows: Sequence[Result], step: str) -> list[Result]:
    return [row for row in rows if row.get("step") == step and "way" in row]


def _front(pair: Sequence[Result], cost: str) -> str:
    """Say after which steps a point is on the front."""
    steps = [row["step"] for row in pair if row["dominated_by"][cost] is None]
    return "both" if len(steps) == len(STEPS) else (steps[0] if steps else "dominated")


def _points(report: Result) -> str:
    """Return every point: accuracies after both steps, what it costs, and where it is dominated."""
    rows = report["rows"]
    whole = rows[0]
    lines = [
        ["whole, as int8", "", percent(whole["accuracy"]), "", "", "", f"{whole['bytes']:,}"]
        + ["100 %", f"{whole['num_nonzero']:,}"]
    ]
    for pair in zip(*(_rows(rows, step) for step in STEPS), strict=True):
        last = pair[-1]
        lines.append(
            [_way(last["way"]), f"{KINDS[last['kind']]} {percent(last['share'], 0)}"]
            + [spread([100 * value for value in row["accuracies"]]) for row in pair]
            + [_front(pair, cost) for cost in KINDS]
            + [f"{last['bytes']:,}", percent(last["flops"] / whole["flops"], 0)]
            + [f"{last['num_nonzero']:,}"]
        )
    return table(HEAD, lines)


def _gain(row: Result) -> str:
    return f"{spread([100 * gain for gain in row['gains']])} over `{row['best_part']}`"


def _gains(report: Result) -> str:
    """Return what each sequence gains over the best of its own methods alone."""
    pairs = zip(*(_rows(report["rows"], step) for step in STEPS), strict=True)
    lines = [
        [_way(pair[0]["way"]), f"{KINDS[pair[0]['kind']]} {percent(pair[0]['share'], 0)}"]
        + [" : ".join(percent(part, 0) for part in pair[0]["parts"])]
        + [_gain(row) for row in pair]
        for pair in pairs
        if "gains" in pair[0]
    ]
    head = ["sequence", "budget", "parts of the way", *(f"points, {step}" for step in STEPS)]
    return table(head, lines)


def _word(gains: Sequence[float], row: Result) -> str:
    """Return yes or no where all seeds agree, by more than twice the error of so many images."""
    p, mean = _mean(row), sum(gains) / len(gains)
    error = (2 * p * (1 - p) / (row["count"] * len(gains))) ** 0.5
    if min(gains) > 0 and mean > 2 * error:
        return "yes"
    return "no" if max(gains) < 0 and mean < -2 * error else "neither"


def verdict(rows: Sequence[Result], kind: str, step: str) -> str:
    """Say how many sequences gain, lose or do neither with every seed, and where most is gained.

    Example:
        >>> shared = {"way": "prune-sparse", "kind": "bytes", "share": 0.1, "step": "taught"}
        >>> row = {**shared, "gains": [0.01, 0.02], "accuracies": [0.9, 0.9], "count": 10_000}
        >>> verdict([row], "bytes", "taught")
        'taught, 1 of 1 gain, 0 lose (best: `prune`, then `sparse` at 10 %, +1.50 points)'
    """
    known = [row for row in _rows(rows, step) if row["kind"] == kind and "gains" in row]
    words = [_word(row["gains"], row) for row in known]
    best = max(known, key=lambda row: sum(row["gains"]) / len(row["gains"]))
    mean = sum(best["gains"]) / len(best["gains"])
    return (
        f"{step}, {words.count('yes')} of {len(known)} gain, {words.count('no')} lose "
        f"(best: {_way(best['way'])} at {percent(best['share'], 0)}, {100 * mean:+.2f} points)"
    )


def claim(rows: Sequence[Result], kind: str, share: float, step: str) -> str:
    """Say whether the best sequence beats the best method alone at a budget, with every seed.

    Example:
        >>> place = {"kind": "bytes", "share": 0.1, "step": "taught", "count": 10_000}
        >>> ways = {"prune": [0.5, 0.5], "sparse": [0.7, 0.8], "prune-sparse": [0.9, 0.7]}
        >>> rows = [{**place, "way": way, "accuracies": x} for way, x in ways.items()]
        >>> claim(rows, "bytes", 0.1, "taught")
        'taught, neither: `prune`, then `sparse` 80.00 ± 14.14, `sparse` alone 75.00 ± 7.07'
    """
    there = [row for row in _rows(rows, step) if (row["kind"], row["share"]) == (kind, share)]
    together, alone = (
        max((row for row in there if ("-" in row["way"]) == several), key=_mean)
        for several in (True, False)
    )
    pairs = zip(together["accuracies"], alone["accuracies"], strict=True)
    gains = [mine - other for mine, other in pairs]
    word = _word(gains, together)
    first, second = (spread([100 * x for x in row["accuracies"]]) for row in (together, alone))
    return f"{step}, {word}: {_way(together['way'])} {first}, {_way(alone['way'])} alone {second}"


def _mean(row: Result) -> float:
    return sum(row["accuracies"]) / len(row["accuracies"])


def _verdicts(report: Result) -> str:
    """Return whether the claim holds at each budget, and what sequences gain over their parts."""
    rows = report["rows"]
    budgets = dict.fromkeys((row["kind"], row["share"]) for row in rows if "way" in row)
    lines = ["Does the best sequence beat the best method alone?", ""]
    lines += [
        f"- {KINDS[kind]} {percent(share, 0)}: "
        + "; ".join(claim(rows, kind, share, step) for step in STEPS)
        for kind, share in budgets
    ]
    lines += ["", "Over the best of its own methods, of all sequences and budgets:", ""]
    lines += [
        f"- at equal {KINDS[kind]}: " + "; ".join(verdict(rows, kind, step) for step in STEPS)
        for kind in dict.fromkeys(kind for kind, _ in budgets)
    ]
    return "\n".join(lines)


def _lost(report: Result) -> str:
    """Name the points that the lesson takes accuracy from; nothing where there are none."""
    pairs = zip(*(_rows(report["rows"], step) for step in STEPS), strict=True)
    lost = [
        f"{_way(after['way'])} at {percent(after['share'], 0)} of the {KINDS[after['kind']]} "
        f"({100 * (_mean(after) - _mean(before)):+.2f} points)"
        for before, after in pairs
        if _mean(after) < _mean(before)
    ]
    if not lost:
        return ""
    return f"\n\nThe lesson takes from some: {', '.join(lost)}."


def _network(name: str, path: str) -> str:
    report = load(path)
    config, first = report["config"], report["rows"][0]
    looks, recovery = config["looks"], config["recovery"]
    picture = path.replace(".json", ".png")
    minutes = sum(row.get("cpu_seconds", 0) * len(row["accuracies"]) for row in report["rows"]) / 60
    seeds = ", ".join(map(str, config["seeds"]))
    rates = " or ".join(f"{rate:g}" for rate in (recovery["rate"], *config.get("rates", ())))
    return f"""## {name}

{first["count"]:,} test images of what was saved and loaded again, seeds {seeds}. Channels by masked
Fisher of {looks["rounds"]} rounds, factors from {looks["covariances"]} images, BatchNorm
re-estimated on {looks["statistics"]}; the lesson shows {recovery["train_images"]:,} images,
{recovery["epochs"]} time(s) in batches of {recovery["batch_size"]}, with the whole network's stored
answers alone, at a rate of {rates}. Bytes are shares of {first["float32_bytes"]:,}, the whole
network in float32. Points took {minutes / 2:.0f} CPU minutes. {source(path)}

{_verdicts(report)}{_lost(report)}

{_points(report)}

{_gains(report)}

![Accuracy against bytes and FLOPs](../../{picture})

{_command(config)}"""


def _command(config: Result) -> str:
    """Return the command that makes the table."""
    words = " ".join(
        " ".join([f"--{name}", *map(str, config[name])])
        for name in ("bytes", "flops", "seeds", "ways")
    )
    network = config["network"]
    return command(
        f"python -m experiments.combined {network} --weights {network}_cifar10.safetensors",
        "--data-dir tensorflow_datasets",
        words,
    )


def page() -> str:
    """Return the page."""
    networks = [(name, path) for name, path in NAMES.items() if (ROOT / path).exists()]
    sections = "\n\n".join(_network(name, path) for name, path in networks)
    return f"""# Alone and together

SlimNets (arXiv 1808.00496) says that methods together reach what none reaches alone: a distilled
student, pruned, is 85x smaller than VGG-19 at 96 % of its accuracy. Its table combines distillation
and masks only. Here channels, low rank and masks go alone and in every sensible order to the same
bytes on disk, all as int8, and, without masks, to the same FLOPs; each is measured right after and
after a short lesson by stored answers. A sequence is compared with the best of the methods that it
is made of, at the same budget, met within 3 %; it gains, or loses, if it does so with every seed
and, in the mean, by more than twice the standard error of two samples of so many test images. How
much of the way each method goes (in logarithms of cost) is chosen from a small grid, once for each
sequence and kind of budget, at the first budget, on training images that nothing else looks at.
Masks come last: channels and factors would mix or remove what they had chosen. A point is on a
front if no other one costs no more and is no worse; fronts are of one step.

Every method is made here in one go, in its cheap form: by the recipes' defaults each alone is
better ([one function a method](recipes.md)).

{sections}
"""
