"""One of two processes that go through stages and save artifacts together, or refuse together.

``python -m tests.experiments.common.staged PORT NUMBER FOLDER``; says in JSON what it saw.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

ROWS = np.arange(24, dtype=np.float32).reshape(8, 3)


def refused(work: Callable[[], Any]) -> str:
    """Return how something is refused."""
    try:
        return f"done: {work()}"
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def staged(folder: Path, number: int) -> dict[str, Any]:
    """Run stages that agree, and some that do not."""
    from rich.console import Console

    from experiments.common.stages import Stages
    from jaxcompress import parallel
    from jaxcompress.files import atomic_file
    from jaxcompress.processes import by_first

    calls: list[str] = []

    def summed() -> dict[str, Any]:
        calls.append("summed")
        mesh = parallel.mesh()
        rows = jax.device_put(ROWS, parallel.batch_sharding(mesh))
        whole = parallel.replicated(mesh)
        total = float(jax.jit(jnp.sum, out_shardings=whole)(rows))

        def written() -> None:
            with atomic_file(folder / "run" / "made.txt") as stream:
                stream.write(b"made")

        by_first("writing", written)
        return {"total": total, "number": number}

    def broken() -> dict[str, Any]:
        if number == 1:
            raise ValueError("of the second")
        return {}

    def stages(where: Path, **settings: Any) -> Stages:
        return Stages(where, {"epochs": 2, **settings}, Console(quiet=True))

    run = folder / "run"
    with stages(run) as opened:
        first = opened.run("sum", summed, ["made.txt"])
        again = opened.run("sum", summed, ["made.txt"])
        failed = refused(lambda: opened.run("broken", broken))
    return {
        "first": first,
        "is_same": first == again,
        "calls": calls,
        "failed": failed,
        "differ": refused(lambda: stages(run, epochs=2 + number)),
        "others": refused(lambda: stages(run, epochs=9)),
        "blind": refused(lambda: stages(folder / str(number) / "apart")),
    }


def saved(folder: Path) -> None:
    """Save variables that are split, replicated, of one process, and a key."""
    import jaxcompress as jc
    from jaxcompress import parallel

    mesh = parallel.mesh()
    variables = parallel.replicate({"whole": ROWS, "key": jax.random.key(3)}, mesh)
    variables["split"] = jax.device_put(ROWS, parallel.batch_sharding(mesh))
    variables["local"] = jnp.asarray(ROWS)
    jc.save(folder / "artifact", jc.chain(), variables)
    loaded = jc.load(folder / "artifact", lambda variables: variables)[1]
    np.testing.assert_array_equal(loaded["split"], ROWS)


class State(NamedTuple):
    """What is kept of a training run."""

    step: Any
    rows: Any


def stopped(folder: Path, number: int) -> Any:
    """Return the code with which training ends, where the second process is asked to stop."""
    from experiments.common.stopping import Kept
    from jaxcompress import parallel
    from jaxcompress.training import saving_behind

    state: Any = parallel.replicate(State(np.int32(3), ROWS), parallel.mesh())
    try:
        with saving_behind(folder / "kept") as save:
            Kept(folder / "kept", lambda: number == 1, save).at_times(state)
    except SystemExit as end:
        return end.code
    return None


def meetings(number: int) -> dict[str, str]:
    """Meet at different places, or too late."""
    from jaxcompress.processes import exchanged

    places = refused(lambda: exchanged(f"place {number}", 0))
    if number == 1:
        time.sleep(3)
    late = refused(lambda: exchanged("lunch", number, seconds=0.5 if number == 0 else 60))
    return {"places": places, "late": late}


def main() -> None:
    """Join the other, as commands do; then everything in turn."""
    port, number, folder = sys.argv[1:]
    from experiments.common import environment
    from experiments.common.joining import VARIABLE

    os.environ[VARIABLE] = f"{number}/2@localhost:{port}"
    alone = refused(environment.prepare)
    environment.prepare(several=True)
    print("what the first alone prints")
    said: dict[str, Any] = {"alone": alone, **staged(Path(folder), int(number))}
    saved(Path(folder))
    save = refused(lambda: _save_nothing(Path(folder)))
    said |= {"save": save, "code": stopped(Path(folder), int(number)), **meetings(int(number))}
    assert sys.__stdout__ is not None
    sys.__stdout__.write(f"{json.dumps(said)}\n")


def _save_nothing(folder: Path) -> None:
    import jaxcompress as jc

    jc.save(folder / "none", jc.chain(), {"name": "no array"})


if __name__ == "__main__":
    main()
