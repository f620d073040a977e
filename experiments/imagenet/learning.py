"""The lesson: steps over streamed batches; interrupted, it goes on from its last checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from rich.console import Console

from experiments.common.accumulating import accumulated
from experiments.common.progress import steps
from experiments.common.sharing import keyed
from experiments.common.stopping import asked_to_stop
from experiments.common.streaming.batches import Batches
from experiments.common.timing import Stopwatch
from experiments.imagenet.network import fast
from experiments.imagenet.settings import Config
from experiments.imagenet.teaching import rows_of
from jaxcompress import parallel, recipes, training
from jaxcompress.annotations import Array, Batch, Json, PyTree
from jaxcompress.processes import by_first, exchanged

__all__ = ["learn", "optimizer"]

FOR_ONE_RATE = 256
"""Images of an update that the rate is for: of twice as many, the rate is twice as high."""
MOMENTUM, DECAY = 0.9, 1e-4
CHECKED = 20
"""Steps between looks at the loss."""
AHEAD = 3
"""Steps that the device may have before it, so that it never waits for the host."""
STATE_BYTES = 256
"""Room for the state of the batches, which are JSON; checkpoints hold arrays of one shape."""


class Progress(NamedTuple):
    """All that a checkpoint of the lesson holds.

    Attributes:
        state: of training.
        average: of the variables, over the steps; the variables themselves without one.
        given: the state of the batches, `uint8[STATE_BYTES]`, which all processes share.
    """

    state: training.TrainState
    average: PyTree
    given: Array


def optimizer(config: Config, total: int) -> optax.GradientTransformation:
    """Return SGD with momentum; the rate rises for some epochs and falls to zero as a cosine.

    Args:
        config: of the rate, for `FOR_ONE_RATE` images an update.
        total: how many updates there are.
    """
    peak = config.rate * config.batch_size / FOR_ONE_RATE
    warm = min(total - 1, total * config.warmup_epochs // config.epochs)
    rate = optax.warmup_cosine_decay_schedule(0.0 if warm else peak, peak, warm, total)
    decay = optax.add_decayed_weights(DECAY, mask=_kernels)
    return optax.chain(decay, optax.sgd(rate, momentum=MOMENTUM, nesterov=True))


def _kernels(params: dict[str, PyTree]) -> dict[str, bool]:
    return {path: path.endswith("/kernel") for path in params}


def learn(
    lesson: recipes.Lesson,
    variables: PyTree,
    batches: Batches,
    config: Config,
    mesh: Mesh,
    folder: Path,
    console: Console,
) -> tuple[Any, dict[str, Json]]:
    """Return the student's variables after the lesson, and its pace.

    Args:
        lesson: its loss, and what is stored.
        variables: where it starts.
        batches: of all epochs.
        config: the settings.
        mesh: the devices.
        folder: of the checkpoints.
        console: where progress is shown.

    Raises:
        FloatingPointError: if the loss is NaN or infinite.
        SystemExit: with the code of a terminated process, if it was asked to stop; the state is
            saved.
    """
    total = len(batches)
    tx = accumulated(optimizer(config, total), config.accumulate_steps)
    step = _update(_step(lesson, tx, mesh), config.accumulate_steps, mesh)
    progress = _begun(variables, tx, batches, mesh, folder)
    first = int(progress.state.step) // config.accumulate_steps
    state, average = progress.state, progress.average
    key = parallel.replicate(jax.random.key(config.seed), mesh)
    losses: list[Any] = []
    watch = Stopwatch()
    with asked_to_stop() as asked, training.saving_behind(folder) as save:
        for number in steps(range(first, total), total - first, "learning", console):
            state, metrics = step(state, rows_of(lesson, next(batches)), key)
            average = _averaged(average, state.variables, config.ema)
            losses.append(metrics["loss"])
            if number == first:  # compiling is not the pace
                jax.block_until_ready(metrics)
                watch = Stopwatch()
            # Steps are handed out ahead of the device: more would only hold batches in memory.
            jax.block_until_ready(losses[-AHEAD:][0])
            if len(losses) % CHECKED == 0 or number == total - 1:
                _check(losses, first)
            is_asked = _any_asked(asked, number)
            if is_asked or (number + 1) % config.save_steps == 0:
                save(Progress(state, average, _given(batches, mesh)), step=int(state.step))
            if is_asked:
                raise SystemExit(128 + signal.SIGTERM)
    taken = max(1, len(losses) - 1)
    batches.close()
    last = losses[-max(1, total // 10) :]
    return jax.device_get(average), {
        "steps": total,
        "images_per_second": taken * config.batch_size / max(watch.seconds, 1e-9),
        "loss": float(np.mean([float(loss) for loss in last])) if last else None,
    }


def _step(lesson: recipes.Lesson, tx: optax.GradientTransformation, mesh: Mesh) -> training.Step:
    step = training.train_step(lesson.training_loss, tx)
    return training.jit_step(fast(keyed(step)), mesh)


def _any_asked(asked: Callable[[], bool], number: int) -> bool:
    """Whether this process was asked to stop, or, at every so many steps, any of several."""
    if jax.process_count() == 1:
        return asked()
    is_time = (number + 1) % CHECKED == 0
    return is_time and any(exchanged("whether to stop", asked()))


def _update(step: training.Step, parts: int, mesh: Mesh) -> training.Step:
    """Take a step with each part of a batch of the host; metrics are means over them."""
    if parts == 1:
        return lambda state, batch, key: step(state, parallel.shard_batch(batch, mesh), key)

    def update(state: training.TrainState, batch: Batch, key: jax.Array) -> tuple[Any, Any]:
        metrics = []
        for number in range(parts):
            part = jax.tree.map(lambda rows, n=number: np.split(rows, parts)[n], batch)
            state, measured = step(state, parallel.shard_batch(part, mesh), key)
            metrics.append(measured)
        return state, jax.tree.map(lambda *values: sum(values) / parts, *metrics)

    return update


def _begun(
    variables: PyTree, tx: optax.GradientTransformation, batches: Batches, mesh: Mesh, folder: Path
) -> Progress:
    """Return where the lesson stands: at its start, or at the last checkpoint."""
    placed = parallel.replicate(jax.tree.map(jnp.asarray, variables), mesh)
    state = parallel.replicate(training.init_state(placed, tx), mesh)
    start = Progress(state, placed, _given(batches, mesh))
    if not by_first("kept states", lambda: list(training.checkpoint_steps(folder))):
        return start
    known = training.restore_checkpoint(folder, start)
    batches.set_state(np.asarray(known.given).tobytes())
    return known


def _given(batches: Batches, mesh: Mesh) -> Array:
    # Blanks after JSON are no part of it.
    state = np.frombuffer(batches.get_state().ljust(STATE_BYTES), np.uint8)
    return parallel.replicate(state, mesh)


def _averaged(average: PyTree, variables: PyTree, decay: float) -> Any:
    return _mixed(variables, average, 1 - decay) if decay else variables


_mixed = jax.jit(optax.incremental_update)


def _check(losses: list[Any], first: int) -> None:
    values = np.asarray(jax.device_get(losses[-CHECKED:]))
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        number = first + len(losses) - len(values) + int(wrong[0]) + 1
        raise FloatingPointError(
            f"a lesson goes on while its loss is finite, but it is {values[wrong[0]]} at step "
            f"{number}; look at the data and the variables, or lower rate"
        )
