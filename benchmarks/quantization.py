"""Networks in integers: ResNet-20 with public weights, whole and at half of its FLOPs, CIFAR-10.

    python -m benchmarks.quantization --data-dir .

No labels. Half is `recipes.low_rank`, BatchNorm re-estimated. Accuracy is of rounded floats, which
are the integers to rounding; `agreement` is the share of `integer_images` of which the integers
themselves say the same. Trained rows take `steps` of stochastic gradient descent by the answers of
the network in floats. Latencies are the shortest of many calls, all rows of a network in turns,
without and with `fast_convolutions`; files are `save`'s, as they are and by `Encoding("exact")`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcompress as jc
from benchmarks import front_doors
from experiments.common import data
from experiments.common.command import Command
from experiments.common.environment import prepare
from experiments.common.timing import Stopwatch
from jaxcompress import artifact, quantization, training
from jaxcompress.annotations import Array, Function, PyTree
from jaxcompress.backend import fast_convolutions


@dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        data_dir: see `benchmarks.front_doors`.
        output: the rows.
        networks: which of "whole" and "half".
        test_images: how many are classified.
        integer_images: how many the integers classify too.
        statistics_images: that BatchNorm is re-estimated on.
        examples: that ranges are found on.
        steps: of training, where there is any.
        rate: its learning rate at the start; it falls to zero as a cosine.
        batch_size: of training.
        latency_batches: images per call.
        repeats: calls of each row.
        seed: of what is drawn.
    """

    data_dir: Path = front_doors.Config.data_dir
    output: Path = Path("benchmarks/results/quantization_resnet20.json")
    networks: tuple[Literal["whole", "half"], ...] = ("whole", "half")
    test_images: int = 10_000
    integer_images: int = 200
    statistics_images: int = 4096
    examples: int = 512
    steps: int = 100
    rate: float = 2e-3
    batch_size: int = 64
    latency_batches: tuple[int, ...] = (1, 64)
    repeats: int = 5
    seed: int = 0


class Way(NamedTuple):
    """How a network is quantized.

    Attributes:
        bits: of its kernels.
        activations: see `jc.quantize`.
        candidates: of the ends of the kernels' ranges.
        trained: whether it is trained.
    """

    bits: int = 8
    activations: Any = "float"
    candidates: int = 1
    trained: bool = False


WAYS = {
    "int8 kernels": Way(),
    "int8, static": Way(activations="static"),
    "int8, dynamic": Way(activations="dynamic"),
    "int4 kernels": Way(4),
    "int4 kernels, cut off": Way(4, candidates=13),
    "int4, static": Way(4, "static"),
    "int4, static, trained": Way(4, "static", trained=True),
}


class Network(NamedTuple):
    """A network in floats: how it came to be, and both of its functions."""

    compression: jc.Compression
    variables: PyTree
    apply: Function
    train_apply: Function


def networks(task: front_doors.Task, names: Sequence[str]) -> Iterator[tuple[str, Network]]:
    """Yield the networks in floats."""
    for name in names:
        change, variables = jc.chain(), task.variables
        if name == "half":
            change, variables = front_doors.low_rank(task)
        train_apply = change.function(task.train_apply)
        if name == "half":
            variables = task.renewed(train_apply, variables)
        yield name, Network(change, variables, change.function(task.apply), train_apply)


def integers(
    task: front_doors.Task, network: Network, way: Way, config: Config
) -> tuple[jc.Compression, PyTree, PyTree]:
    """Quantize a network in one way; return codes, and the floats that are rounded to them."""
    result = jc.recipes.quantize(
        network.apply,
        network.variables,
        task.batches(config.examples, 128, 11),
        bits=way.bits,
        activations=way.activations,
        candidates=way.candidates,
        examples=config.examples,
    )
    change, floats = result.compression, network.variables
    if way.trained:
        floats = trained(task, network, change, config)
    return change, change.variables(floats), floats


def trained(
    task: front_doors.Task, network: Network, change: jc.Compression, config: Config
) -> PyTree:
    """Train the floats for the integers, by the answers that the network itself gives."""
    rounded = quantization.fake_quantized(change, network.train_apply)
    teacher = network.apply, network.variables
    lesson = jc.recipes.distill(lambda v, x, key: rounded(v, x), teacher)
    tx = optax.sgd(optax.cosine_decay_schedule(config.rate, config.steps), momentum=0.9)
    step = jax.jit(training.train_step(lesson.training_loss, tx))
    state = training.init_state(network.variables, tx)
    batches = task.batches(config.steps * config.batch_size, config.batch_size, 12)
    for number, batch in enumerate(batches):
        state, _ = step(state, batch, jax.random.fold_in(task.key, number))
    return state.variables


def sizes(compression: jc.Compression, variables: PyTree) -> dict[str, int]:
    """Return the bytes of artifacts, by encoding."""
    made = {}
    for name, encoding in {"as it is": None, "exact": artifact.Encoding()}.items():
        with tempfile.TemporaryDirectory() as folder:
            jc.save(folder, compression, variables, encoding=encoding)
            made[name] = artifact.num_bytes(folder)
    return made


def file_row(task: front_doors.Task, network: Network) -> dict[str, Any]:
    """Round the file alone: what is loaded computes in floats."""
    with tempfile.TemporaryDirectory() as folder:
        encoding = artifact.Encoding("int8")
        jc.save(folder, network.compression, network.variables, encoding=encoding)
        _, variables = jc.load(folder, task.apply)
        size = artifact.num_bytes(folder)
    accuracy = task.accuracy(network.apply, variables)
    return {"way": "int8 file", "accuracy": accuracy, "bytes": {"exact": size}}


def agreement(
    one: tuple[Function, PyTree], other: tuple[Function, PyTree], images: Array
) -> dict[str, float]:
    """Say how far two networks agree: on classes, and on logits, over the largest of these."""
    first, second = (
        np.concatenate([np.asarray(jax.jit(f)(v, part)) for part in np.split(images, 4)])
        for f, v in (one, other)
    )
    same = (first.argmax(-1) == second.argmax(-1)).mean()
    error = np.abs(first - second).max() / np.abs(first).max()
    return {"agreement": float(same), "error": float(error)}


def latencies(
    runs: dict[str, tuple[Function, PyTree]], images: Array, config: Config
) -> dict[str, dict[str, float]]:
    """Return the shortest milliseconds of a call, by row, batch size and convolutions."""
    shortest: dict[str, dict[str, float]] = {name: {} for name in runs}
    for size in config.latency_batches:
        for form, changed in {"": lambda f: f, " fast": fast_convolutions}.items():
            calls = {name: (jax.jit(changed(f)), v) for name, (f, v) in runs.items()}
            for round_ in range(config.repeats + 2):
                for name, (call, variables) in calls.items():
                    watch = Stopwatch()
                    jax.block_until_ready(call(variables, images[:size]))
                    if round_ >= 2:
                        known = shortest[name].get(f"{size}{form}", np.inf)
                        shortest[name][f"{size}{form}"] = min(known, 1e3 * watch.seconds)
    return shortest


def main(config: Config) -> None:
    """Measure every network; what is there already stays."""
    prepare()
    task = front_doors.Task(
        front_doors.Config(
            config.data_dir,
            seed=config.seed,
            test_images=config.test_images,
            statistics_images=config.statistics_images,
        )
    )
    normalize = data.preprocess(task.dataset)
    images = jnp.asarray(normalize(task.dataset.test_images[: config.integer_images]))
    known = json.loads(config.output.read_text())["rows"] if config.output.exists() else []
    rows: list[dict[str, Any]] = [
        row for row in known if "latency_ms" in row or "file" in row["way"]
    ]
    left = [name for name in config.networks if name not in {row["network"] for row in rows}]
    for name, network in networks(task, left):
        runs = {"float32": (network.apply, network.variables)}
        first = {"way": "float32", "accuracy": task.accuracy(network.apply, network.variables)}
        first |= {"bytes": sizes(network.compression, network.variables)}
        made = [first, file_row(task, network)]
        for way, settings_ in WAYS.items():
            watch = Stopwatch()
            change, codes, floats = integers(task, network, settings_, config)
            seconds = watch.seconds
            rounded = quantization.fake_quantized(change, network.apply)
            runs[way] = change.function(network.apply), codes
            row = {"way": way, "accuracy": task.accuracy(rounded, floats), "seconds": seconds}
            row |= {"bytes": sizes(jc.chain(network.compression, change), codes)}
            made.append(row | agreement(runs[way], (rounded, floats), images))
            print(name, made[-1], flush=True)
            front_doors.write(config, [*rows, *({"network": name, **each} for each in made)])
        for way, times in latencies(runs, images, config).items():
            next(row for row in made if row["way"] == way)["latency_ms"] = times
        rows += [{"network": name, **row} for row in made]
        front_doors.write(config, rows)


COMMAND = Command("benchmarks.quantization", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
