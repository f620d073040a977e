"""Networks that stages leave: each saved under a name that says what it was made of."""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

import jaxcompress as jc
from experiments.common.stages import Stages
from experiments.compress.fitting import Task
from experiments.compress.judging import answers_of
from experiments.compress.methods import traced
from experiments.compress.model import Model
from experiments.compress.settings import STRUCTURAL, Config
from jaxcompress import artifact
from jaxcompress.annotations import Json
from jaxcompress.knowledge import fingerprint
from jaxcompress.knowledge.fingerprints import fingerprint_json
from jaxcompress.latency import LatencyTable
from jaxcompress.processes import by_first

__all__ = ["Made", "Making", "digest", "identity_of"]

HELD, MOST_HELD = 0.1, 512
LOOKED = 16_384


@dataclasses.dataclass(frozen=True)
class Made:
    """A network that a stage has left.

    Attributes:
        name: of its row.
        model: the network.
        key: the digest of all that it depends on.
        facts: what its stage found.
        folder: of its artifact, in the work folder.
    """

    name: str
    model: Model
    key: str
    facts: dict[str, Any]
    folder: str


@dataclasses.dataclass(frozen=True)
class Making:
    """What all stages share.

    Attributes:
        config: the settings.
        task: the whole network and its data.
        stages: does each once.
        console: where progress is shown.
        table: what operations of the whole network take, where time is limited.
    """

    config: Config
    task: Task
    stages: Stages
    console: Console
    table: LatencyTable | None = None

    @functools.cached_property
    def order(self) -> np.ndarray:
        """Shuffle the training examples, the same way each time."""
        count = len(self.task.data.train["image"])
        return np.random.default_rng(self.config.seed).permutation(count)

    @functools.cached_property
    def held(self) -> dict[str, np.ndarray]:
        """Training examples that splits and lessons are compared on; none where there are none."""
        chosen = self.order[: self._held_count]
        return {name: array[chosen] for name, array in self.task.data.train.items()}

    @functools.cached_property
    def shown(self) -> np.ndarray:
        """Where the training examples stand that a lesson shows: all that are not held."""
        return np.sort(self.order[self._held_count :])

    @functools.cached_property
    def looked(self) -> dict[str, np.ndarray]:
        """Training examples that scores, ranks and statistics are taken from."""
        chosen = self.order[self._held_count :][:LOOKED]
        return {name: array[chosen] for name, array in self.task.data.train.items()}

    @property
    def _held_count(self) -> int:
        stages = self.config.stages
        if "distil" not in stages and sum(stage in STRUCTURAL for stage in stages) < 2:
            return 0
        return max(1, min(MOST_HELD, round(HELD * len(self.order))))

    @functools.cached_property
    def held_answers(self) -> np.ndarray:
        """What the whole network says of the examples that are held."""
        return answers_of(self.task, self.task.model, self.held)

    @functools.cached_property
    def test_answers(self) -> np.ndarray:
        """What the whole network says of the test examples."""
        return answers_of(self.task, self.task.model, self.task.data.test)

    @functools.cached_property
    def graph(self) -> jc.Graph:
        """Of the whole network."""
        return self.traced(self.task.model)

    def traced(self, model: Model) -> jc.Graph:
        """Return the graph of a network, which knows time where that is limited."""
        if self.table is None:
            return traced(self.task, model)
        return jc.latency.with_latency(traced(self.task, model, self.table.batch), self.table)

    @functools.cached_property
    def times(self) -> str | None:
        """The digest of the table of times, where there is one."""
        if self.table is None:
            return None
        sites = {name: grid.seconds.tolist() for name, grid in self.table.sites.items()}
        return digest(self.table.device, self.table.batch, sites)

    def key(self, number: int) -> jax.Array:
        """Return a key of its own for one kind of work."""
        return jax.random.fold_in(jax.random.key(self.config.seed), number)

    def state_folder(self, key: str) -> Path:
        """Return where training keeps its state, until the stage is done."""
        return self.stages.workdir / f"state-{key}"

    def run(self, row: str, stage: str, key: str, make: Callable[[], tuple[Model, Any]]) -> Made:
        """Make a network, or read it where that is done; several processes read the first's.

        Args:
            row: its name in the report.
            stage: what is done, the start of the stage's name.
            key: digest of all that it depends on, the end of it.
            make: does it: `make() -> (model, facts)`.
        """
        name = f"{stage}-{key}"
        folder, whole = self.stages.workdir / name, self.task.model

        def work() -> dict[str, Json]:
            model, facts = make()
            jc.save(folder, model.compression, model.variables)
            return {**facts, "bytes": artifact.num_bytes(folder)}

        facts = self.stages.run(name, work, [name])
        state = self.state_folder(key)
        by_first("removing a state", lambda: shutil.rmtree(state, ignore_errors=True))
        compression = jc.from_spec(artifact.inspect(folder)["spec"])
        _, variables = jc.load(folder, whole.apply, like=whole.variables)
        model = whole._replace(compression=jc.chain()).after(compression, variables)
        return Made(row, model, key, facts, name)


def digest(*parts: Json) -> str:
    """Return a short digest of what a stage depends on.

    Example:
        >>> digest("prune", 0.5) == digest("prune", 0.4)
        False
    """
    return fingerprint_json(list(parts))[:10]


def identity_of(task: Task) -> list[Json]:
    """Tell a network and its data from others: by program, numbers and examples."""
    model, batch = task.model, task.one()
    key = jax.random.key(0)
    programs = [jax.make_jaxpr(model.apply)(model.variables, batch)]
    if model.train_apply is not None:
        programs.append(jax.make_jaxpr(model.train_apply)(model.variables, batch, key))
    texts = [re.sub("0x[0-9a-f]+", "", str(program)) for program in programs]
    constants = [fingerprint(list(program.consts)) for program in programs]
    leaves = jax.tree.leaves(model.variables)
    is_trained = not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    numbers = fingerprint(model.variables) if is_trained else None
    return [texts, constants, numbers, task.data.identity(), task.outputs]
