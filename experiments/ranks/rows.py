"""The rows of `experiments.ranks`: ranks compared at one cost, final networks, the lossless one.

To compare, kernels are multiplied out to their original shapes: all run in one compiled program.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from rich.console import Console

import jaxcompress as jc
from experiments.common import report
from experiments.common.measure import Measure, augmented
from experiments.common.timing import Stopwatch
from experiments.common.tuning import Tuner
from experiments.ranks import study
from experiments.ranks.judge import Judge
from experiments.ranks.settings import Factors, Method
from jaxcompress import low_rank
from jaxcompress.annotations import PyTree
from jaxcompress.low_rank import ranks
from jaxcompress.processes import by_first

__all__ = ["compare", "dense", "final", "lossless", "say"]

CONSOLE = Console()


def say(row: report.Row) -> None:
    """Tell how accurate a network is."""
    CONSOLE.print(report.accuracy_line(row))


def dense(judge: Judge, measure: Measure, on_some: bool) -> list[report.Row]:
    """Measure the original, where a comparison classifies only some images also on those."""
    network = judge.network
    # All test images are classified below in any case.
    compared = judge.test_accuracy(network.variables) if on_some else None
    apply, variables, change = network.apply, network.variables, network.compression
    row = measure("dense", apply, variables, change, 0.0, folder="dense", compared=compared)
    say(row)
    return [row]


def compare(
    judge: Judge,
    method: Method,
    fraction: float,
    kinds: Sequence[Factors],
    tuned: Sequence[Factors] = (),
    tuner: Tuner | None = None,
) -> list[report.Row]:
    """Judge one method's ranks at one fraction of the FLOPs, with every kind of factors.

    Args:
        judge: of the rows.
        method: that chooses the ranks.
        fraction: of the FLOPs.
        kinds: of factors.
        tuned: those of them that `tuner` trains, after re-estimation, for one more row.
        tuner: not None where there are `tuned`.
    """
    network, known, watch = judge.network, judge.known, Stopwatch()
    chosen = study.choose(known, method, jc.Budget(flops=fraction), judge.choice_accuracy())
    shared = {
        "method": method,
        "budget": fraction,
        "enc_ratio": ranks.enc_ratio(known.table, chosen),
        "count": judge.count,
        "ranks": list(chosen.values()),
    }
    fields = {"seconds": watch.seconds, **study.costs(known, chosen)}
    rows = []

    def judged(whole: PyTree, factors: Factors, step: str) -> None:
        name = f"{method}, {factors}, {fraction:.0%}{f', {step}' if step else ''}"
        extra = {**shared, "factors": factors, "reestimated": step != "", "step": step}
        row = report.Row(name, accuracy=judge.test_accuracy(whole), **fields, extra=extra)
        rows.append(row)
        say(row)

    for factors in kinds:
        lowrank, small = study.factorized(known, network.variables, chosen, factors)
        whole = low_rank.multiplied_out(lowrank, small)
        judged(whole, factors, "")
        whole = judge.renewed(network.train_apply, whole)
        judged(whole, factors, "re-estimated")
        if tuner is not None and factors in tuned:
            statistics = {**small, "batch_stats": whole["batch_stats"]}
            known_as = f"{method}-{factors}-{fraction:.2f}"
            train_apply = lowrank.function(network.train_apply)
            trained = tuner(train_apply, statistics, name=known_as)
            judged(low_rank.multiplied_out(lowrank, trained), factors, "fine-tuned")
    return rows


def final(
    judge: Judge,
    measure: Measure,
    method: Method,
    factors: Factors,
    fraction: float,
    sweeps: int,
    tuner: Tuner,
) -> list[report.Row]:
    """Really factorize at one budget, measure on all test images, save, and fine-tune."""
    network, known, watch = judge.network, judge.known, Stopwatch()
    budget = jc.Budget(flops=fraction)
    chosen = study.choose(known, method, budget, judge.choice_accuracy())
    lowrank, small = study.factorized(known, network.variables, chosen, factors)
    seconds = watch.seconds
    apply, train_apply = lowrank.function(network.apply), lowrank.function(network.train_apply)
    steps: dict[str, Callable[[Any], Any]] = {
        "re-estimated": functools.partial(judge.renewed, train_apply)
    }
    if sweeps:
        steps["compensated"] = functools.partial(compensated, judge, lowrank, sweeps)
    if tuner.tuning.epochs:
        steps["fine-tuned"] = functools.partial(tuner, train_apply, name=f"{fraction:.2f}-final")
    name = f"{method}, {factors}, {fraction:.0%}, factorized"
    rows = [measure(name, apply, small, lowrank, seconds, final=fraction)]
    say(rows[-1])
    for step, make in steps.items():
        watch = Stopwatch()
        small = jax.block_until_ready(make(small))
        seconds += watch.seconds
        name, folder = f"{name}, {step}", f"{fraction:.2f}-{step}"
        rows.append(measure(name, apply, small, lowrank, seconds, folder=folder, final=fraction))
        say(rows[-1])
    return rows


def compensated(judge: Judge, lowrank: jc.Compression, sweeps: int, small: PyTree) -> PyTree:
    """Fit all factors anew, some times, to the inputs that the factorized network has."""
    network = judge.network
    for sweep in range(sweeps):
        whole = judge.renewed(network.train_apply, low_rank.multiplied_out(lowrank, small))
        # Small batches: the patches of all sites are held at once.
        images = augmented(
            judge.dataset,
            jax.random.fold_in(judge.key, sweep),
            count=judge.fitting_images,
            batch_size=32,
            settings=judge.views,
        )["image"]
        small = study.compensated(judge.known, network, lowrank, small, whole, images)
    return judge.renewed(lowrank.function(network.train_apply), small)


def lossless(judge: Judge, factors: Factors, step: float) -> list[report.Row]:
    """Find the smallest network, of ranks by `sensitivity`, that is as accurate as the original.

    Both are judged on the test images of a comparison, as ENC does: the figure says how far the
    method can go, not what one could have known without labels.
    """
    network, known = judge.network, judge.known
    metric = ranks.error_metric(known.weighted_table)

    def search(table: ranks.Sites, budget: jc.Budget) -> ranks.Ranks:
        # The first decides: all classify with one choice.
        return by_first(  # type: ignore[no-any-return]
            "ranks of a trial",
            lambda: ranks.optimum(table, budget, metric=metric, cells=10_000),
        )

    def evaluate(chosen: study.Chosen) -> float:
        made = study.factorized(known, network.variables, chosen, factors)
        whole = low_rank.multiplied_out(*made)
        return judge.test_accuracy(judge.renewed(network.train_apply, whole))

    baseline, watch = judge.test_accuracy(network.variables), Stopwatch()
    result = ranks.lossless(known.weighted_table, search, evaluate, baseline=baseline, step=step)
    if result.ranks is None:
        return []
    chosen = result.ranks
    row = report.Row(
        "lossless",
        accuracy=max(trial.accuracy for trial in result.trials if trial.ranks is result.ranks),
        seconds=watch.seconds,
        **study.costs(known, chosen),
        extra={
            "baseline": baseline,
            "count": judge.count,
            "trials": [[trial.share, trial.accuracy] for trial in result.trials],
            "ranks": list(chosen.values()),
        },
    )
    say(row)
    return [row]
