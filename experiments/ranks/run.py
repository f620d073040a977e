"""Choose the ranks of a whole network under FLOPs budgets, by many methods, and compare them.

    python -m experiments.rank_configuration digits
    python -m experiments.rank_configuration resnet56 --weights resnet56_cifar10.safetensors \\
        --data-dir tensorflow_datasets

Everything is chosen on training images. Each method's ranks are judged with factors made in several
ways (see `rank_study.FACTORS`), as they are and with BatchNorm statistics re-estimated on augmented
images. The last rows are really factorized, saved, and, with `--tuning.epochs`, fine-tuned. Run
again with the same settings, it goes on where it was interrupted.
"""

from __future__ import annotations

from experiments import environment

environment.prepare()

import dataclasses  # noqa: E402
import functools  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import jax  # noqa: E402
import tyro  # noqa: E402
from rich.console import Console  # noqa: E402

import jaxcompress as jc  # noqa: E402
from experiments import prune, quickstart, rank_rows, rank_study, report, tuning  # noqa: E402
from experiments.measure import Measure  # noqa: E402
from experiments.rank_plot import plot  # noqa: E402
from experiments.stages import Stages  # noqa: E402
from jaxcompress import models, parallel  # noqa: E402
from jaxcompress.files import file_digest  # noqa: E402

__all__ = ["Config", "main"]

CONSOLE = Console()
METHODS = (*rank_study.SEARCHES, "enc_inf", "sensitivity")


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
        methods: of `rank_study.SEARCHES`, `enc_inf` and `sensitivity`.
        factors: of `rank_study.FACTORS`.
        tuned: those of `factors` whose rows are fine-tuned, too, for the epochs of `tuning`.
        final: fractions at which `final_method` is really factorized and saved.
        final_method: whose ranks these are.
        final_factors: how their factors are made.
        sweeps: how often the final factors are fitted to the inputs that they themselves cause.
        lossless: step of the search for the smallest network as accurate as the original; 0: none.
        covariance_images: for the data-aware factors and the gradients.
        choice_images: that `enc_inf` judges by.
        fitting_images: of each sweep; with their positions, several times the rows of a kernel.
        statistics_images: that BatchNorm statistics are re-estimated on, augmented.
        test_images: how many test images the comparison classifies; 0 for all. The dense and the
            final networks always see all.
        tuning: of the final networks and of `tuned`.
        batch_size: images per step.
        seed: of everything random.
        workdir: where the report, the picture and the artifacts go.
    """

    weights: Path | None = None
    data_dir: Path | None = None
    model: str = "resnet56"
    dataset: str = "cifar10"
    flops: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.75)
    methods: tuple[str, ...] = METHODS
    factors: tuple[str, ...] = rank_study.FACTORS
    tuned: tuple[str, ...] = ()
    final: tuple[float, ...] = (0.4, 0.5)
    final_method: str = "sensitivity"
    final_factors: str = "weighted"
    sweeps: int = 3
    lossless: float = 0.0
    covariance_images: int = 1024
    choice_images: int = 512
    fitting_images: int = 256
    statistics_images: int = 2048
    test_images: int = 0
    tuning: tuning.Tuning = tuning.Tuning()
    batch_size: int = 128
    seed: int = 0
    workdir: Path = Path("runs/rank_configuration")


DIGITS = Config(
    model="resnet20",
    dataset="digits",
    flops=(0.3,),
    methods=("uniform", "enc_map", "sensitivity"),
    factors=("weights", "weighted"),
    final=(0.3,),
    sweeps=0,
    covariance_images=256,
    choice_images=128,
    statistics_images=512,
    workdir=Path("runs/rank_configuration_digits"),
)
# ENC's released solver, of VGG-16: rate 1e-5, divided by 10 only at the last of 320,000 steps.
PAPER = dataclasses.replace(
    Config(),
    tuning=tuning.Tuning(epochs=820, rate=1e-5, schedule="constant", distillation=0.0),
    workdir=Path("runs/rank_configuration_paper"),
)
PRESETS = {
    "resnet56": ("ResNet-56 on CIFAR-10, without fine-tuning", Config()),
    "paper": ("ResNet-56 on CIFAR-10, fine-tuned for as long as ENC", PAPER),
    "digits": ("ResNet-20 on scikit-learn's digits, in a minute", DIGITS),
}


def main(config: Config) -> list[report.Row]:
    """Run all stages and return the rows of the report."""
    with Stages(config.workdir, settings_of(config), CONSOLE) as stages:
        return run_all(config, stages)


def settings_of(config: Config) -> dict[str, Any]:
    """Return the settings that all stages of one folder share: of files, what they hold."""
    known = prune.data.load(config.dataset, config.data_dir)
    own = {**dataclasses.asdict(config), "workdir": "", "data_dir": ""}
    weights = None if config.weights is None else file_digest(config.weights)
    return {**own, "weights": weights, "data": prune.data.identity(known)}


def run_all(config: Config, stages: Stages) -> list[report.Row]:
    """Run the stages and write the report."""
    keys = jax.random.split(jax.random.key(config.seed), 4)
    task = prepare(config, keys[3])
    known = rank_study.learn(
        task, keys[0], config.covariance_images, config.batch_size, config.workdir
    )
    judge = rank_rows.Judge(
        task,
        known,
        keys[1],
        config.statistics_images,
        config.choice_images,
        config.fitting_images,
        config.test_images,
        config.batch_size,
    )
    network = (config.model, {"num_classes": task.dataset.num_classes})
    measure = Measure(task.dataset, task.mesh, config.workdir, network)
    rows = []
    for name, work in plan(config, judge, measure, keys[2]).items():
        facts = stages.run(name, functools.partial(_facts, work))
        rows += [report.Row.from_json(row) for row in facts["rows"]]
    finish(config, known, rows)
    return rows


def _facts(work: Callable[[], list[report.Row]]) -> dict[str, Any]:
    return {"rows": [row.to_json() for row in work()]}


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
    apply, train_apply = models.evaluation_function(module), models.training_function(module)
    folder = config.workdir / "network"
    if not (folder / "structure.json").exists():
        variables = models.initialize(module, key, quickstart.SHAPE)
        settings = quickstart.Config()
        variables = quickstart.fit(train_apply, variables, dataset, 12, settings, key, mesh)
        network = (config.model, {"num_classes": dataset.num_classes})
        jc.save(folder, jc.chain(), jax.device_put(variables, jax.devices()[0]), network=network)
    _, variables = jc.load(folder)
    return prune.Task(apply, train_apply, variables, dataset, mesh, quickstart.VIEWS)


def plan(
    config: Config, judge: rank_rows.Judge, measure: Measure, key: jax.Array
) -> dict[str, Callable[[], list[report.Row]]]:
    """Return the stages by name; each makes some rows."""
    task, tuner = judge.task, tuning.Tuner(judge.task, config.tuning, key)
    tuned = config.tuned if config.tuning.epochs else ()

    def dense() -> list[report.Row]:
        # All test images are classified below in any case.
        compared = judge.test_accuracy(task.variables) if config.test_images else None
        network = task.apply, task.variables, jc.chain()
        row = measure("dense", *network, 0.0, folder="dense", compared=compared)
        prune.say(row)
        return [row]

    made: dict[str, Callable[[], list[report.Row]]] = {"dense": dense}
    for fraction in config.flops:
        for method in config.methods:
            made[f"{method}-{fraction:.2f}"] = functools.partial(
                rank_rows.compare, judge, method, fraction, config.factors, tuned, tuner
            )
    for fraction in config.final:
        made[f"final-{fraction:.2f}"] = functools.partial(
            rank_rows.final,
            judge,
            measure,
            config.final_method,
            config.final_factors,
            fraction,
            config.sweeps,
            tuner,
        )
    if config.lossless:
        made["lossless"] = functools.partial(
            rank_rows.lossless, judge, config.final_factors, config.lossless
        )
    return made


def finish(config: Config, known: rank_study.Known, rows: list[report.Row]) -> None:
    """Print the table; write the report and the picture."""
    report.table(rows)
    settings = {**dataclasses.asdict(config), "seconds": known.seconds}
    path = report.write_report(config.workdir, "rank_configuration", settings, rows)
    CONSOLE.print(f"report: {path}")
    if config.flops and config.methods:
        picture = config.workdir / "rank_configuration.png"
        plot(picture, rows)
        CONSOLE.print(f"picture: {picture}")


if __name__ == "__main__":
    main(tyro.extras.overridable_config_cli(PRESETS))
