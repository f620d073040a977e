"""The rows of `rank_configuration`: ranks compared at one cost, final networks, the lossless one.

To compare, kernels are multiplied out to their original shapes: all run in one compiled program.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

import jaxcompress as jc
from experiments import prune, rank_study, report
from experiments.measure import Measure, augmented
from experiments.rank_study import Known
from experiments.tuning import Tuner
from jaxcompress import low_rank, training
from jaxcompress.low_rank import ranks

__all__ = ["Judge", "compare", "final", "lossless"]


@dataclasses.dataclass(frozen=True)
class Judge:
    """How networks are judged.

    Attributes:
        task: the original network and its data.
        known: of its sites.
        key: of the images that statistics are re-estimated on.
        statistics_images: how many.
        choice_images: training images that ranks are chosen by.
        fitting_images: training images of each sweep of `compensated`.
        test_images: how many test images a comparison classifies; 0 for all.
        batch_size: of the re-estimation.
    """

    task: prune.Task
    known: Known
    key: jax.Array
    statistics_images: int
    choice_images: int
    fitting_images: int
    test_images: int
    batch_size: int

    def accuracy(self, variables: Any, images: Any, labels: Any) -> float:
        """Return the accuracy of the original function on variables of its shapes."""
        found = training.evaluate(
            self.task.apply,
            variables,
            images,
            labels,
            batch_size=500,
            mesh=self.task.mesh,
            preprocess=prune.data.preprocess(self.task.dataset),
        )
        return found["accuracy"]

    def test_accuracy(self, variables: Any) -> float:
        """Return the accuracy on the test images of a comparison."""
        dataset, count = self.task.dataset, self.count
        return self.accuracy(variables, dataset.test_images[:count], dataset.test_labels[:count])

    @property
    def count(self) -> int:
        """How many test images a comparison classifies."""
        return self.test_images or len(self.task.dataset.test_labels)

    def choice_accuracy(self) -> Callable[[rank_study.Chosen], float]:
        """Return the accuracy at ranks on training images, with factors of the weights alone."""
        known, dataset, count = self.known, self.task.dataset, self.choice_images
        images, labels = dataset.train_images[:count], dataset.train_labels[:count]
        at = functools.cache(
            lambda: low_rank.truncations(known.graph, self.task.variables, known.forms)
        )
        return lambda chosen: self.accuracy(at()(chosen), images, labels)

    def renewed(self, train_apply: Any, variables: Any) -> Any:
        """Re-estimate BatchNorm statistics on augmented training images."""
        batches = augmented(
            self.task.dataset,
            self.key,
            count=self.statistics_images,
            batch_size=self.batch_size,
            settings=self.task.views,
        )
        own = jax.device_put(variables, jax.devices()[0])
        return training.reestimate(train_apply, own, batches["image"], self.key)


def compare(
    judge: Judge,
    method: str,
    fraction: float,
    kinds: Sequence[str],
    tuned: Sequence[str] = (),
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
    task, known, started = judge.task, judge.known, time.perf_counter()
    chosen = rank_study.choose(known, method, jc.Budget(flops=fraction), judge.choice_accuracy())
    shared = {
        "method": method,
        "budget": fraction,
        "enc_ratio": ranks.enc_ratio(known.table, chosen),
        "count": judge.count,
        "ranks": list(chosen.values()),
    }
    fields = {"seconds": time.perf_counter() - started, **rank_study.costs(known, chosen)}
    rows = []

    def judged(whole: Any, factors: str, step: str) -> None:
        name = f"{method}, {factors}, {fraction:.0%}{f', {step}' if step else ''}"
        extra = {**shared, "factors": factors, "reestimated": step != "", "step": step}
        row = report.Row(name, accuracy=judge.test_accuracy(whole), **fields, extra=extra)
        rows.append(row)
        prune.say(row)

    for factors in kinds:
        lowrank, small = rank_study.factorized(known, task.variables, chosen, factors)
        whole = low_rank.multiplied_out(lowrank, small)
        judged(whole, factors, "")
        whole = judge.renewed(task.train_apply, whole)
        judged(whole, factors, "re-estimated")
        if tuner is not None and factors in tuned:
            statistics = {**small, "batch_stats": whole["batch_stats"]}
            own = tuner(lowrank.function(task.train_apply), statistics)
            judged(low_rank.multiplied_out(lowrank, own), factors, "fine-tuned")
    return rows


def final(
    judge: Judge,
    measure: Measure,
    method: str,
    factors: str,
    fraction: float,
    sweeps: int,
    tuner: Tuner,
) -> list[report.Row]:
    """Really factorize at one budget, measure on all test images, save, and fine-tune."""
    task, known, started = judge.task, judge.known, time.perf_counter()
    budget = jc.Budget(flops=fraction)
    chosen = rank_study.choose(known, method, budget, judge.choice_accuracy())
    lowrank, small = rank_study.factorized(known, task.variables, chosen, factors)
    seconds = time.perf_counter() - started
    apply, train_apply = lowrank.function(task.apply), lowrank.function(task.train_apply)
    steps: dict[str, Callable[[Any], Any]] = {
        "re-estimated": functools.partial(judge.renewed, train_apply)
    }
    if sweeps:
        steps["compensated"] = functools.partial(compensated, judge, lowrank, sweeps)
    if tuner.tuning.epochs:
        steps["fine-tuned"] = functools.partial(tuner, train_apply)
    name = f"{method}, {factors}, {fraction:.0%}, factorized"
    rows = [measure(name, apply, small, lowrank, seconds, final=fraction)]
    prune.say(rows[-1])
    for step, make in steps.items():
        started = time.perf_counter()
        small = jax.block_until_ready(make(small))
        seconds += time.perf_counter() - started
        name, folder = f"{name}, {step}", f"{fraction:.2f}-{step}"
        rows.append(measure(name, apply, small, lowrank, seconds, folder=folder, final=fraction))
        prune.say(rows[-1])
    return rows


def compensated(judge: Judge, lowrank: jc.Compression, sweeps: int, small: Any) -> Any:
    """Fit all factors anew, some times, to the inputs that the factorized network has."""
    task = judge.task
    for sweep in range(sweeps):
        whole = judge.renewed(task.train_apply, low_rank.multiplied_out(lowrank, small))
        # Small batches: the patches of all sites are held at once.
        images = augmented(
            task.dataset,
            jax.random.fold_in(judge.key, sweep),
            count=judge.fitting_images,
            batch_size=32,
            settings=task.views,
        )["image"]
        small = rank_study.compensated(judge.known, task, lowrank, small, whole, images)
    return judge.renewed(lowrank.function(task.train_apply), small)


def lossless(judge: Judge, factors: str, step: float) -> list[report.Row]:
    """Find the smallest network, of ranks by `sensitivity`, that is as accurate as the original.

    Both are judged on the test images of a comparison, as ENC does: the figure says how far the
    method can go, not what one could have known without labels.
    """
    task, known = judge.task, judge.known
    metric = ranks.error_metric(known.weighted_table)
    search = functools.partial(ranks.optimum, metric=metric, cells=10_000)

    def evaluate(chosen: rank_study.Chosen) -> float:
        made = rank_study.factorized(known, task.variables, chosen, factors)
        whole = low_rank.multiplied_out(*made)
        return judge.test_accuracy(judge.renewed(task.train_apply, whole))

    baseline, started = judge.test_accuracy(task.variables), time.perf_counter()
    found = ranks.lossless(known.weighted_table, search, evaluate, baseline=baseline, step=step)
    if found.ranks is None:
        return []
    chosen = found.ranks
    row = report.Row(
        "lossless",
        accuracy=max(trial.accuracy for trial in found.trials if trial.ranks is found.ranks),
        seconds=time.perf_counter() - started,
        **rank_study.costs(known, chosen),
        extra={
            "baseline": baseline,
            "count": judge.count,
            "trials": [[trial.share, trial.accuracy] for trial in found.trials],
            "ranks": list(chosen.values()),
        },
    )
    prune.say(row)
    return [row]
