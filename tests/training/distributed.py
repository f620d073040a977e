"""One of two processes under `jax.distributed` that save and restore together.

``python -m tests.training.distributed PORT NUMBER FOLDER``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

VALUES = np.arange(6, dtype=np.float32)


def refused(work: Any) -> str:
    """Return how something is refused."""
    try:
        work()
    except (ValueError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def save_behind(folder: Path, state: Any, number: int) -> None:
    """Save behind steps that reuse the buffers; then let the second process fail to write."""
    from jaxcompress import parallel
    from jaxcompress.training import behind as module
    from jaxcompress.training import saving_behind, writing

    layout = jax.tree.map(lambda leaf: leaf.sharding, state)
    more = lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree)  # noqa: E731
    step = jax.jit(more, donate_argnums=0, out_shardings=layout)
    keys = parallel.replicate(jax.random.key(7), state["w"].sharding.mesh)
    with saving_behind(folder / "behind") as save:
        for count in range(3):
            save({**state, "key": keys}, step=count, score=-count)
            before, state = state, step(state)
            # Of what each holds parts of, Orbax has views on a CPU: that JAX does not donate.
            assert before["w"].is_deleted() and before["step"].is_deleted()
            jax.block_until_ready(state)

    class Failing(NamedTuple):
        written: Any

        def result(self) -> None:
            self.written.result()
            raise OSError("no room")

    def failing() -> None:
        with saving_behind(folder / "failing") as save:
            save(state, step=0)
            save(state, step=1)

    write = writing.write

    def failing_write(folder: Path, state: Any) -> Any:
        written = write(folder, state)
        return Failing(written) if number == 1 else written

    module.write = failing_write  # type: ignore[assignment]
    print(refused(failing))


def main() -> None:
    """Join the other; save and restore; say what was refused."""
    port, number, folder = sys.argv[1:]
    jax.distributed.initialize(f"localhost:{port}", 2, int(number))
    from jax.sharding import NamedSharding, PartitionSpec

    from jaxcompress import parallel
    from jaxcompress.training import restore_checkpoint, save_checkpoint

    mesh = parallel.mesh()
    rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
    state = parallel.replicate({"w": VALUES, "step": np.int32(3)}, mesh)
    split = jax.make_array_from_callback((6,), rows, lambda index: VALUES[index])
    state["split"] = split
    run, other = Path(folder) / "run", Path(folder) / "other"
    for step in (3, 5):
        save_checkpoint(run, state, step=step, score=0.5)
    restored = restore_checkpoint(run, state)
    np.testing.assert_array_equal(restored["w"].addressable_data(0), VALUES)
    np.testing.assert_array_equal(restored["split"].addressable_data(0), split.addressable_data(0))
    assert int(restored["step"].addressable_data(0)) == 3
    print(refused(lambda: save_checkpoint(run, state)))
    print(refused(lambda: save_checkpoint(run, state, step=5)))
    print(refused(lambda: save_checkpoint(other, {"w": jax.numpy.ones(2)})))
    print(refused(lambda: restore_checkpoint(run, {**state, "w": VALUES})))
    print(refused(lambda: save_checkpoint(Path(folder) / number / "apart", state)))
    print(refused(lambda: save_checkpoint(run, state, step=7)))
    save_behind(Path(folder), state, int(number))


if __name__ == "__main__":
    main()
