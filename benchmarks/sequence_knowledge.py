"""What stored answers to sequences are worth: characters of Python's own library, half a decoder.

    python -m benchmarks.sequence_knowledge

A decoder reads the sources of the standard library, one character a token, in pieces of whole
lines; every eighth file is held out. Another of half its width is taught by labels alone, by the
teacher in every step, and by stored answers, whole or the eight largest logits, with the defaults
of `recipes.distill`; once more by whole ones at the temperature of images. Seconds are of the CPU.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from experiments.common.characters import VOCABULARY, first, texts
from experiments.common.command import Command
from experiments.common.environment import describe, prepare
from experiments.common.timing import Stopwatch
from jaxcompress import models, parallel, recipes, training
from jaxcompress.annotations import Array, Batch, Function, Json, PyTree
from jaxcompress.files import write_json
from jaxcompress.knowledge import Source, fingerprint, kd, next_tokens
from jaxcompress.knowledge.store import Storage, Store, num_bytes, open_store, write
from jaxcompress.recipes.distances import TEMPERATURE
from jaxcompress.recipes.labelling import label_loss

__all__ = ["COMMAND", "Config", "main"]

MASK = itemgetter("mask")
STORED = {"stored, whole": None, "stored, 8 largest": 8}
WARM = f"stored, whole, at temperature {TEMPERATURE:g}"
ARMS = ("labels alone", "live teacher", *STORED, WARM)


@dataclasses.dataclass(frozen=True)
class Config:
    """What is measured.

    Attributes:
        output: the JSON file.
        seeds: of the students and the order of their examples.
        width: of the teacher; the student has half of it, and of its heads and perceptron.
        depth: layers of both.
        length: the most characters of a piece.
        examples: pieces that the teacher answers, and the student sees.
        held_out: pieces of held-out files.
        teacher_steps: of the teacher, on all pieces.
        student_steps: of each student.
        batch_size: pieces a step.
        rate: the largest of Adam.
    """

    output: Path = Path("benchmarks/results/sequence_knowledge.json")
    seeds: tuple[int, ...] = (0, 1)
    width: int = 128
    depth: int = 2
    length: int = 128
    examples: int = 4096
    held_out: int = 1024
    teacher_steps: int = 360
    student_steps: int = 300
    batch_size: int = 32
    rate: float = 3e-3


def decoder(config: Config, share: int = 1) -> models.Decoder:
    """Return a decoder of the width, or of a share of it; heads of 32 features."""
    width = config.width // share
    return models.Decoder(VOCABULARY, width, config.depth, width // 32, width // 32, 8 * width // 3)


def labels(batch: Batch) -> jax.Array:
    """Return the character that follows each."""
    return next_tokens(batch["tokens"], batch["mask"])


def trained(
    training_loss: Callable[..., Any],
    variables: PyTree,
    data: PyTree,
    config: Config,
    steps: int,
    key: jax.Array,
) -> tuple[PyTree, float]:
    """Train by Adam; return the variables and the seconds of a step, without compiling."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, config.rate, steps // 10, steps)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    step = jax.jit(training.train_step(training_loss, tx), donate_argnums=0)
    state = training.init_state(variables, tx)
    count, seconds = len(jax.tree.leaves(data)[0]), []
    generator = np.random.default_rng(int(jax.random.randint(key, (), 0, 1 << 30)))
    for _ in range(steps):
        watch = Stopwatch(time.process_time)
        rows = generator.choice(count, config.batch_size, replace=False)
        state, metrics = step(state, jax.tree.map(itemgetter(rows), data), key)
        jax.block_until_ready(metrics)
        seconds.append(watch.seconds)
    return state.variables, float(np.median(seconds))


def bits(apply: Function, variables: PyTree, data: PyTree, size: int = 128) -> float:
    """Return bits per character that has another before it in its piece."""

    @jax.jit
    def sums(batch: Batch) -> tuple[jax.Array, jax.Array]:
        known = labels(batch)
        counts = (known >= 0).sum(-1)
        losses = label_loss(apply(variables, batch), known, batch["mask"])
        return (losses * counts).sum(), counts.sum()

    starts = range(0, len(data["mask"]), size)
    parts = [sums(jax.tree.map(itemgetter(slice(s, s + size)), data)) for s in starts]
    total, count = (sum(float(part[i]) for part in parts) for i in (0, 1))
    return total / count / float(np.log(2))


def student_function(apply: Function) -> Function:
    """Return a network without state as recipes train it."""
    return lambda variables, batch, key=None: (apply(variables, batch), {})


def label_lesson(apply: Function) -> Callable[..., Any]:
    """Return the loss of labels alone."""

    def loss(variables: PyTree, batch: Batch, key: Array) -> tuple[jax.Array, PyTree]:
        del key
        value = label_loss(apply(variables, batch), labels(batch), batch["mask"]).mean()
        return value, ({}, {"loss": value})

    return loss


def stores(
    folder: str, apply: Function, variables: PyTree, data: PyTree
) -> tuple[dict[str, Store], dict[str, Json]]:
    """Store all logits, and the eight largest; say what that costs."""
    source = Source(data, len(data["mask"]), fingerprint(data), mask=MASK)
    answer = lambda tree, batch: {"logits": apply(tree, batch)}  # noqa: E731
    opened, costs = {}, {}
    for arm, top_k in STORED.items():
        path, watch = f"{folder}/{top_k}", Stopwatch(time.process_time)
        storage = Storage(top_k=top_k)
        options: dict[str, Any] = {"batch_size": 64, "mesh": parallel.mesh(jax.local_devices()[:1])}
        manifest = write(path, answer, variables, source, storage=storage, **options)
        size = sum(f.stat().st_size for f in Path(path, "records").rglob("*") if f.is_file())
        about = {"bytes": size, "raw_bytes": num_bytes(manifest), "write_seconds": watch.seconds}
        opened[arm], costs[arm] = open_store(path, source=source), about
    return opened, costs


def main(config: Config) -> None:
    """Train the teacher, store its answers, teach every student, and write what came of it."""
    prepare()
    environment = describe()
    learned, held_out = texts(config.length)
    held_out = first(held_out, config.held_out)
    seen = first(learned, config.examples)
    big, small = (decoder(config, share) for share in (1, 2))
    apply, student = (models.evaluation_function(module) for module in (big, small))
    run = partial(trained, config=config, key=jax.random.key(0), steps=config.teacher_steps)
    begin = models.initialize(big, jax.random.key(0), first(learned, 1))
    watch = Stopwatch(time.process_time)
    teacher, step = run(label_lesson(apply), begin, learned)
    row = {"arm": "teacher", "step_seconds": step, "seconds": watch.seconds}
    rows = [{**row, "bits": bits(apply, teacher, held_out)}]
    print(rows[-1], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        known, costs = stores(folder, apply, teacher, seen)
        for seed in config.seeds:
            for arm in ARMS:
                answers = known.get(arm.partition(", at")[0], (apply, teacher))
                rows.append(taught(config, arm, (student, small), answers, (seen, held_out), seed))
                print(rows[-1], flush=True)
    sizes = {"pieces": len(learned["mask"]), "filled": float(learned["mask"].mean())}
    about = {k: v for k, v in dataclasses.asdict(config).items() if k != "output"}
    report = {"environment": environment, "config": about, "data": sizes, "stores": costs}
    write_json(config.output, {**report, "rows": rows})


def taught(
    config: Config,
    arm: str,
    student: tuple[Function, models.Decoder],
    teacher: Any,
    data: tuple[PyTree, PyTree],
    seed: int,
) -> dict[str, Json]:
    """Teach one student in one way."""
    (apply, module), (seen, held_out), key = student, data, jax.random.key(1 + seed)
    watch = Stopwatch(time.process_time)
    loss, knowledge = label_lesson(apply), {}
    if arm != ARMS[0]:
        options: dict[str, Any] = {"labels": labels, "inputs": tokens_of, "mask": MASK}
        if arm == WARM:
            options["distance"] = partial(kd, temperature=TEMPERATURE)
        lesson = recipes.distill(student_function(apply), teacher, **options)
        loss, knowledge = lesson.training_loss, dict(lesson.knowledge)
    begin = models.initialize(module, key, first(seen, 1))
    given = {**seen, **knowledge}
    variables, step = trained(loss, begin, given, config, config.student_steps, key)
    row = {"arm": arm, "seed": seed, "step_seconds": step, "seconds": watch.seconds}
    return {**row, "bits": bits(apply, variables, held_out)}


def tokens_of(batch: Batch) -> PyTree:
    """Return what a decoder is given."""
    return {"tokens": batch["tokens"], "mask": batch["mask"]}


COMMAND = Command("benchmarks.sequence_knowledge", __doc__, main, Config)

if __name__ == "__main__":
    COMMAND()
