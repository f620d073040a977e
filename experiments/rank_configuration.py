"""Choose the ranks of a whole network under FLOPs budgets, by many methods, and compare them.

    python -m experiments.rank_configuration digits
    python -m experiments.rank_configuration resnet56 --weights resnet56_cifar10.safetensors \\
        --data-dir tensorflow_datasets

Everything is chosen on training images. Each method's ranks are judged with factors from the
weights alone, from the data (`input_roots`) and refined (`refine`), as they are and with BatchNorm
statistics re-estimated on augmented images. A truncated kernel is multiplied out to its original
shape, so that all of them run in one compiled program; the last rows are really factorized, saved,
and, with `--epochs`, fine-tuned.
"""

from __future__ import annotations

from experiments import environment

environment.prepare()

import dataclasses  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Mapping  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import jax  # noqa: E402
import numpy as np  # noqa: E402
import tyro  # noqa: E402
from rich.console import Console  # noqa: E402

import jaxcompress as jc  # noqa: E402
from experiments import prune, quickstart, report  # noqa: E402
from experiments.measure import Measure, augmented  # noqa: E402
from jaxcompress import models, parallel, training, transforms  # noqa: E402
from jaxcompress.search import ranks  # noqa: E402
from jaxcompress.search.ranks import arrays  # noqa: E402

__all__ = ["Config", "main"]

CONSOLE = Console()
FACTORS = ("weights", "data", "refined")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is compared.

    Attributes:
        weights: PyTorch state dict of a CIFAR ResNet, as safetensors; a ResNet-20 is trained on the
            digits where there is none.
        data_dir: folder of TFDS's prepared data.
        model: name of the network.
        dataset: name of the data set.
        flops: fractions of the network's FLOPs, each a budget.
        methods: of `SEARCHES`, `enc_inf` and `sensitivity`.
        factors: made from weights, data, or data and then refined.
        final: fractions at which `final_method` is really factorized and saved.
        final_method: whose ranks these are, with the last of `factors`.
        covariance_images: for the data-aware factors.
        choice_images: that `enc_inf` and `sensitivity` judge by.
        statistics_images: that BatchNorm statistics are re-estimated on, augmented.
        test_images: how many test images the comparison classifies; 0 for all. The dense and the
            final networks always see all.
        epochs: of fine-tuning the final networks, with the original's stored logits; 0 for none.
        train_images: of the fine-tuning; 0 for all.
        rate: learning rate of the fine-tuning.
        temperature: of its distillation.
        batch_size: images per step.
        seed: of everything random.
        workdir: where the report, the picture and the artifacts go.
    """

    weights: Path | None = None
    data_dir: Path | None = None
    model: str = "resnet56"
    dataset: str = "cifar10"
    flops: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.75)
    methods: tuple[str, ...] = ("uniform", "enc_map", "enc_model", "sensitivity")
    factors: tuple[str, ...] = FACTORS
    final: tuple[float, ...] = (0.4, 0.5)
    final_method: str = "sensitivity"
    covariance_images: int = 1024
    choice_images: int = 512
    statistics_images: int = 2048
    test_images: int = 0
    epochs: int = 0
    train_images: int = 0
    rate: float = 0.005
    temperature: float = 4.0
    batch_size: int = 128
    seed: int = 0
    workdir: Path = Path("runs/rank_configuration")


DIGITS = Config(
    model="resnet20",
    dataset="digits",
    flops=(0.3, 0.5),
    methods=("uniform", "enc_map", "sensitivity"),
    final=(0.3,),
    covariance_images=512,
    choice_images=128,
    statistics_images=1024,
    workdir=Path("runs/rank_configuration_digits"),
)

Search = Callable[[ranks.SiteTable, jc.Budget], np.ndarray]
SEARCHES: dict[str, Search] = {
    "uniform": arrays.uniform,
    "energy_threshold": arrays.energy_threshold,
    "evbmf": arrays.evbmf_scaled,
    "enc_map": lambda t, b: arrays.enc_map(t, arrays.energy_metric(t), b),
    "enc_model": lambda t, b: arrays.enc_model(t, b, arrays.energy_metric(t)),
    "optimum": lambda t, b: arrays.optimum(t, arrays.energy_metric(t), b).ranks,
}


class Study:
    """One network, what is known of its sites, and how long that took to learn."""

    def __init__(self, config: Config, task: prune.Task, keys: jax.Array) -> None:
        self.config, self.task, self.keys = config, task, keys
        self.seconds: dict[str, float] = {}
        self.graph = jc.trace(task.apply, task.variables, prune.image_shape(task.dataset))
        self.forms = ranks.convolution_sites(self.graph)
        images = self._images(keys[0], config.covariance_images)
        self.table = self.timed("svd", lambda: self._table(None))
        self.roots = self.timed("covariance", lambda: self._roots(images))
        self.data_table = self.timed("svd with data", lambda: self._table(self.roots))
        self.patches = {}
        if "refined" in config.factors:
            self.patches = self.timed("patch covariance", lambda: self._patches(images))
        self.at = transforms.truncations(self.graph, task.variables, self.forms)
        self.sensitivity: ranks.Metric | None = None
        if "sensitivity" in (*config.methods, config.final_method):
            self.sensitivity = self.timed("sensitivity", self._sensitivity)

    def timed(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what `make` makes, and note how long that took."""
        started = time.perf_counter()
        made = make()
        self.seconds[name] = time.perf_counter() - started
        CONSOLE.print(f"{name}: {self.seconds[name]:.1f} s")
        return made

    def _images(self, key: jax.Array, count: int) -> jax.Array:
        return augmented(
            self.task.dataset, key, count=count, batch_size=self.config.batch_size, settings=None
        )["image"]

    def _table(self, roots: Mapping[str, Any] | None) -> ranks.SiteTable:
        return ranks.network_table(self.graph, self.task.variables, self.forms, roots)

    def _roots(self, images: jax.Array) -> dict[str, Any]:
        task = self.task
        return transforms.input_roots(self.graph, task.apply, task.variables, images, self.forms)

    def _patches(self, images: jax.Array) -> dict[str, Any]:
        spatial = {p: "channel" for p, form in self.forms.items() if form == "spatial"}
        task = self.task
        return transforms.input_covariances(self.graph, task.apply, task.variables, images, spatial)

    def _sensitivity(self) -> ranks.Metric:
        """Tell from gradients how far errors of a site move the logits."""
        task = self.task
        images = self._images(self.keys[1], self.config.choice_images)
        centred = lambda own, x: _centred(task.apply(own, x))  # noqa: E731
        return ranks.sensitivity(
            self.graph, centred, task.variables, images, self.keys[1], self.forms, self.roots
        )

    def choose(self, method: str, fraction: float) -> dict[str, int | None]:
        """Return the ranks of a method at a fraction of the FLOPs."""
        budget = jc.Budget(flops=fraction)
        if method == "sensitivity":
            assert self.sensitivity is not None
            found = arrays.optimum(self.data_table, self.sensitivity, budget, cells=10_000)
            return self.data_table.named(found.ranks)
        if method == "enc_inf":
            energy = arrays.energy_metric(self.table)
            chosen = arrays.enc_inf(self.table, budget, self._training_accuracy, energy)
            return self.table.named(chosen.ranks)
        return self.table.named(SEARCHES[method](self.table, budget))

    def _training_accuracy(self, chosen: Mapping[str, int | None]) -> float:
        count, dataset = self.config.choice_images, self.task.dataset
        images, labels = dataset.train_images[:count], dataset.train_labels[:count]
        return self.accuracy(self.at(chosen), images, labels)

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

    def factorized(self, chosen: Mapping[str, int | None], factors: str) -> tuple[Any, Any]:
        """Return the compression and its variables."""
        roots = None if factors == "weights" else self.roots
        lowrank = jc.factorize(self.graph, chosen, self.forms, roots)
        small = lowrank.variables(self.task.variables)
        if factors == "refined":
            small = transforms.refine(lowrank, self.task.variables, small, self.patches, rounds=3)
        return lowrank, small


def _centred(logits: jax.Array) -> jax.Array:
    return logits - logits.mean(-1, keepdims=True)


def main(config: Config) -> list[report.Row]:
    """Run all stages and return the rows of the report."""
    config.workdir.mkdir(parents=True, exist_ok=True)
    keys = jax.random.split(jax.random.key(config.seed), 5)
    task = prepare(config, keys[4])
    study = Study(config, task, keys)
    network = (config.model, {"num_classes": task.dataset.num_classes})
    measure = Measure(task.dataset, task.mesh, config.workdir, network)
    rows = [measure("dense", task.apply, task.variables, jc.chain(), 0.0, folder="dense")]
    prune.say(rows[0])
    for fraction in config.flops:
        for method in config.methods:
            rows += compare(study, method, fraction)
    for fraction in config.final:
        rows += final(study, measure, fraction)
    finish(config, study, rows)
    return rows


def prepare(config: Config, key: jax.Array) -> prune.Task:
    """Load the network and its data; train it first where it is the digits'."""
    if config.weights is not None and config.data_dir is not None:
        return prune.prepare(
            prune.Config(config.weights, config.data_dir, config.model, config.dataset)
        )
    if config.dataset != "digits":
        raise ValueError(
            f"{config.model} on {config.dataset} needs trained weights and prepared data, but one "
            "is missing; pass --weights and --data-dir, or take the preset digits"
        )
    dataset, mesh = prune.data.load("digits"), parallel.mesh()
    module = models.build(config.model, num_classes=dataset.num_classes)
    apply, train_apply = models.evaluation(module), models.training(module)
    variables = models.initialize(module, key, quickstart.SHAPE)
    variables = quickstart.fit(train_apply, variables, dataset, 12, quickstart.Config(), key, mesh)
    variables = jax.device_put(variables, jax.devices()[0])
    return prune.Task(apply, train_apply, variables, dataset, mesh, quickstart.VIEWS)


def compare(study: Study, method: str, fraction: float) -> list[report.Row]:
    """Judge one method's ranks at one budget, with every kind of factors."""
    started = time.perf_counter()
    chosen = study.choose(method, fraction)
    seconds = time.perf_counter() - started
    count, dataset = study.config.test_images, study.task.dataset
    images = dataset.test_images[:count] if count else dataset.test_images
    labels = dataset.test_labels[: len(images)]
    rows = []
    for factors in study.config.factors:
        lowrank, small = study.factorized(chosen, factors)
        whole = transforms.multiplied_out(lowrank, small)
        renewed = renew(study, study.task.train_apply, whole)
        for name, own in (("", whole), (", re-estimated", renewed)):
            row = report.Row(
                f"{method}, {factors}, {fraction:.0%}{name}",
                accuracy=study.accuracy(own, images, labels),
                seconds=seconds,
                **costs(study, chosen),
                extra={
                    "method": method,
                    "factors": factors,
                    "budget": fraction,
                    "reestimated": bool(name),
                    "enc_ratio": ranks.enc_ratio(study.graph, chosen, study.forms),
                    "count": len(images),
                    "ranks": list(chosen.values()),
                },
            )
            prune.say(row)
            rows.append(row)
    return rows


def costs(study: Study, chosen: Mapping[str, int | None]) -> dict[str, Any]:
    """Return the counted FLOPs and parameters at ranks."""
    table = study.table
    pairs = zip(table.names, table.neutral, strict=True)
    whole = [neutral if chosen[path] is None else chosen[path] for path, neutral in pairs]
    own = np.asarray(whole)
    return {"flops": float(table.cost("flops", own)), "num_params": int(table.cost("params", own))}


def renew(study: Study, train_apply: Any, variables: Any) -> Any:
    """Re-estimate BatchNorm statistics on augmented training images."""
    batches = augmented(
        study.task.dataset,
        study.keys[2],
        count=study.config.statistics_images,
        batch_size=study.config.batch_size,
        settings=study.task.views,
    )
    images = jax.device_put(batches["image"], parallel.batch_sharding(study.task.mesh, axis=1))
    variables = parallel.replicate(variables, study.task.mesh)
    renewed = training.reestimate(train_apply, variables, images, study.keys[2])
    return jax.device_put(renewed, jax.devices()[0])


def final(study: Study, measure: Measure, fraction: float) -> list[report.Row]:
    """Really factorize at one budget, measure on all test images, save, and fine-tune."""
    config, task = study.config, study.task
    chosen = study.choose(config.final_method, fraction)
    lowrank, small = study.factorized(chosen, config.factors[-1])
    apply, train_apply = lowrank.function(task.apply), lowrank.function(task.train_apply)
    small = renew(study, train_apply, small)
    name = f"final {fraction:.0%}"
    folder = f"{int(100 * fraction)}"
    rows = [measure(name, apply, small, lowrank, 0.0, folder=folder, budget=fraction)]
    prune.say(rows[-1])
    if config.epochs:
        settings = prune.Config(
            Path(),
            Path(),
            epochs=config.epochs,
            train_images=config.train_images,
            rate=config.rate,
            temperature=config.temperature,
            batch_size=config.batch_size,
        )
        started = time.perf_counter()
        small = prune.finetune(settings, task, train_apply, small, study.keys[3])
        seconds = time.perf_counter() - started
        folder += "-finetuned"
        rows.append(measure(f"{name}, fine-tuned", apply, small, lowrank, seconds, folder=folder))
        prune.say(rows[-1])
    return rows


def finish(config: Config, study: Study, rows: list[report.Row]) -> None:
    """Print the table; write the report and the picture."""
    report.table(rows)
    settings = {**dataclasses.asdict(config), "seconds": study.seconds}
    path = report.write_report(config.workdir, "rank_configuration", settings, rows)
    picture = config.workdir / "rank_configuration.png"
    plot(picture, rows)
    CONSOLE.print(f"report: {path}\npicture: {picture}")


def plot(path: Path, rows: list[report.Row]) -> None:
    """Draw accuracy against FLOPs: one panel per kind of factors, one curve per method."""
    from matplotlib.figure import Figure

    compared = [row for row in rows if "method" in row.extra]
    kinds = list(dict.fromkeys(row.extra["factors"] for row in compared))
    figure = Figure(figsize=(4.5 * len(kinds), 4), layout="constrained")
    panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    dense = rows[0]
    for axes, kind in zip(panels, kinds, strict=True):
        axes.axhline(100 * (dense.accuracy or 0), color="black", linewidth=0.8, label="dense")
        for number, method in enumerate(dict.fromkeys(row.extra["method"] for row in compared)):
            for renewed, style in ((True, "-o"), (False, ":")):
                own = [
                    row
                    for row in sorted(compared, key=lambda row: row.flops or 0)
                    if (row.extra["method"], row.extra["factors"]) == (method, kind)
                    and row.extra["reestimated"] == renewed
                ]
                x = [100 * (row.flops or 0) / (dense.flops or 1) for row in own]
                y = [100 * (row.accuracy or 0) for row in own]
                label = method if renewed else None
                axes.plot(x, y, style, color=f"C{number}", label=label, markersize=3)
        axes.set_title(f"factors: {kind}")
        axes.set_xlabel("FLOPs, % of the network's")
    panels[0].set_ylabel("test accuracy, % (dotted: statistics kept)")
    panels[-1].legend(fontsize=8)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main(
        tyro.extras.overridable_config_cli(
            {
                "resnet56": ("ResNet-56 on CIFAR-10", Config()),
                "digits": ("ResNet-20 on scikit-learn's digits, in a minute", DIGITS),
            }
        )
    )
