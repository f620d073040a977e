"""Fixed knowledge: bytes per example, write and read rates, and steps with stored or live teachers.

From the root of a clone:

    python -m benchmarks.knowledge
    python -m benchmarks.knowledge --network resnet20 --batch-size 32 --steps 3 --examples 2048

Images are random: what is measured does not depend on what they show, except for how far zstd
compresses feature maps, which come from a network with random weights and so are a lower bound on
what compression saves. Rates of the store are of a teacher that costs nothing.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcompress as jc
from experiments.common import environment
from experiments.common.command import Command
from experiments.common.distill import Teaching, featured_training, teaching_loss, trainable
from experiments.common.timing import Stopwatch
from jaxcompress import knowledge, models, parallel, training
from jaxcompress.annotations import Array, Batch, Json, PyTree
from jaxcompress.knowledge.store import Storage, Store, num_bytes, open_store, write
from jaxcompress.prune import importance

__all__ = ["COMMAND", "Config", "main"]


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        network: name of the teacher; the student is half its FLOPs.
        classes: number of logits of the storage settings that are compared.
        examples: in the stores.
        batch_size: images per step, and records per read.
        steps: how many of each kind are timed, in turns.
        output: the JSON file.
    """

    network: Literal["resnet20", "resnet56"] = "resnet56"
    classes: tuple[int, ...] = (10, 1000)
    examples: int = 8192
    batch_size: int = 128
    steps: int = 5
    output: Path = Path("benchmarks/results/knowledge.json")


FEATURES = {"resnet56": "stage3_block8", "resnet20": "stage3_block2"}
Shapes: TypeAlias = dict[str, tuple[int, ...]]

SETTINGS = {
    "float32": Storage(dtype="float32"),
    "bfloat16": Storage(dtype="bfloat16"),
    "float16": Storage(dtype="float16"),
    "float16 top 8": Storage(dtype="float16", top_k=8),
}


def main(config: Config) -> dict[str, Json]:
    """Measure, print and write everything."""
    environment.prepare()
    report: dict[str, Array] = {
        "environment": environment.describe(),
        "storage": storage_rows(config),
        "steps": step_times(config),
    }
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps(report, indent=2) + "\n")
    for row in report["storage"]:
        print(
            f"{row['what']}: {row['bytes']:.1f} bytes per example ({row['raw_bytes']:.0f} before "
            f"compression), {row['write']:,.0f} written and {row['read']:,.0f} read per second"
        )
    for name, value in report["steps"].items():
        print(f"{name}: {value:.4f}")
    return report


def storage_rows(config: Config) -> list[dict[str, Json]]:
    """Write and read a store of each setting."""
    rows = []
    for classes in config.classes:
        for name, storage in SETTINGS.items():
            outputs: Shapes = {"logits": (classes,)}
            rows.append({"what": f"{classes} logits, {name}", **rates(config, outputs, storage)})
    both: Shapes = {"logits": (10,), "features": (64,)}
    rows.append({"what": "10 logits and 64 features, float16", **rates(config, both, Storage())})
    maps: Shapes = {"features": (8, 8, 64)}
    rows.append({"what": "8x8x64 features, float16", **rates(config, maps, Storage())})
    return rows


def rates(config: Config, outputs: Shapes, storage: Storage) -> dict[str, float]:
    """Return bytes per example and records per second of one setting."""
    generator = np.random.default_rng(0)
    # Each record is a row of a table that repeats after a block: nothing zstd could see.
    table = {
        name: jnp.asarray(generator.normal(size=(storage.block, *shape)) * 5, jnp.float32)
        for name, shape in outputs.items()
    }
    if "features" in table:
        table["features"] = jax.nn.relu(table["features"])
    images = np.arange(config.examples, dtype=np.int32).reshape(-1, 1, 1, 1)
    source = knowledge.Source(images, config.examples, "numbers", jax.random.key(0))

    def teacher(variables: PyTree, numbers: jax.Array) -> dict[str, jax.Array]:
        return {name: leaf[numbers.ravel() % storage.block] for name, leaf in variables.items()}

    with tempfile.TemporaryDirectory() as folder:
        watch = Stopwatch()
        manifest = write(folder, teacher, table, source, storage=storage)
        written = watch.seconds
        files = [file for file in Path(folder, "records").rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        reading = read_seconds(config, folder)
    return {
        "bytes": size / config.examples,
        "raw_bytes": num_bytes(manifest) / config.examples,
        "write": config.examples / written,
        "read": config.examples / reading,
    }


def read_seconds(config: Config, folder: str) -> float:
    """Time one shuffled epoch of prefetched reading, with a cold cache of its own."""
    order = np.random.default_rng(1).permutation(config.examples)
    batches = order[: config.examples // config.batch_size * config.batch_size]
    store = open_store(folder)
    watch = Stopwatch()
    for _ in store.prefetch((rows, 0) for rows in batches.reshape(-1, config.batch_size)):
        pass
    return watch.seconds


def step_times(config: Config) -> dict[str, float]:
    """Time training steps of the student, in turns, so that other load meets all alike."""
    mesh, shape = parallel.mesh(), (config.batch_size, 32, 32, 3)
    module = models.build(config.network, num_classes=10)
    variables = models.initialize(module, jax.random.key(0), (1, *shape[1:]))
    apply = models.evaluation_function(module)
    graph = jc.trace(apply, variables, jax.ShapeDtypeStruct((1, *shape[1:]), jnp.float32))
    # As they are: the published widths were chosen so.
    scores = dict(importance.magnitude(graph, variables))
    keep = jc.select(graph, scores, jc.Budget(flops=0.5))
    prune = jc.shrink(graph, keep)
    train = prune.function(featured_training(module, FEATURES[config.network]))
    small = prune.variables(variables)
    replicated = parallel.replicate(variables, mesh)
    generator = np.random.default_rng(0)
    batch = {
        "image": generator.normal(size=shape).astype(np.float32),
        "label": generator.integers(0, 10, config.batch_size).astype(np.int32),
    }
    with tempfile.TemporaryDirectory() as folder:
        store, addresses = stored_batches(config, folder)
        stream = store.prefetch(addresses)
        reader = lambda: next(stream)  # noqa: E731
        live = lambda images: apply(replicated, images)  # noqa: E731
        calls = {
            "none": stepper(train, Teaching("none"), small, batch, mesh, dict),
            "stored": stepper(train, Teaching("logits"), small, batch, mesh, reader),
            "live": stepper(train, Teaching("live", live=live), small, batch, mesh, dict),
        }
        forward = jax.jit(apply)
        images = parallel.shard_batch(batch["image"], mesh)
        calls["teacher forward"] = lambda: forward(replicated, images)
        calls["reading a batch, nothing prefetched"] = lambda: store.read(*next(addresses))
        return compared(in_turns(calls, config.steps))


def compared(times: dict[str, float]) -> dict[str, float]:
    """Return seconds by name, and their ratios."""
    ratio = times["live"] / times["stored"]
    ideal = (times["none"] + times["teacher forward"]) / times["none"]
    return {
        **{f"{name}, seconds": value for name, value in times.items()},
        "live / stored": ratio,
        "(student + teacher forward) / student": ideal,
        "share of the ideal": ratio / ideal,
        "stored / none": times["stored"] / times["none"],
        "reading a batch / none": times["reading a batch, nothing prefetched"] / times["none"],
    }


def stored_batches(config: Config, folder: str) -> tuple[Store, Iterator[tuple[Any, int]]]:
    """Write a store of logits and features; return it and shuffled addresses without end."""
    images = np.zeros((config.examples, 1, 1, 1), np.int32)
    source = knowledge.Source(images, config.examples, "zeros", jax.random.key(0))

    def teacher(variables: PyTree, images: jax.Array) -> dict[str, jax.Array]:
        return {"logits": jnp.ones((len(images), 10)), "features": jnp.ones((len(images), 64))}

    write(folder, teacher, {}, source)
    generator = np.random.default_rng(0)

    def addresses() -> Iterator[tuple[Any, int]]:
        while True:
            yield generator.integers(0, config.examples, config.batch_size), 0

    return open_store(folder), addresses()


def stepper(
    train: Any, teaching: Teaching, small: PyTree, batch: Batch, mesh: Any, more: Callable[[], Any]
) -> Callable[[], Any]:
    """Return a function that takes one step and waits for nothing."""
    tx, key = optax.sgd(0.01, momentum=0.9), jax.random.key(0)
    both = {"student": small, "assistant": {}}
    state = parallel.replicate(training.init_state(both, tx, trainable=trainable), mesh)
    loss = teaching_loss(train, teaching)
    step = training.jit_step(training.train_step(loss, tx, trainable=trainable), mesh)
    # The step donates its state, so each kind of step has its own copy.
    states = [jax.tree.map(jnp.copy, state)]

    def one() -> Any:
        states[0], metrics = step(states[0], parallel.shard_batch({**batch, **more()}, mesh), key)
        return metrics

    return one


def in_turns(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each call, after two rounds that may compile."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(repeats + 2):
        for name, call in calls.items():
            watch = Stopwatch()
            jax.block_until_ready(call())
            if round_ >= 2:
                times[name].append(watch.seconds)
    return {name: float(np.median(samples)) for name, samples in times.items()}


COMMAND = Command("benchmarks.knowledge", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
