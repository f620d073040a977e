"""One of several processes under `jax.distributed` that write the toy's store together.

``python -m tests.knowledge.distributed PORT NUMBER COUNT FOLDER PAUSE``. Each also draws the views
of its part of a batch that is spread over the devices of all processes, and leaves them in FOLDER.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

BATCH = 16


def draw(examples: Any, images: Any) -> jax.Array:
    """Draw one view of each."""
    # JAX must be told of the other processes before anything is computed, and the toy has a key.
    from jaxcompress.knowledge import views
    from tests.knowledge.toy import KEY, SOURCE

    assert SOURCE.settings is not None
    settings, key = SOURCE.settings, KEY
    return jax.jit(lambda i, x: views(key, i, 1, x, settings=settings))(examples, images)


def reference() -> np.ndarray:
    """Return the views of the batch, drawn on one device of one process."""
    from tests.knowledge import toy

    return np.asarray(draw(np.arange(BATCH), toy.IMAGES[:BATCH]))


def draw_own(folder: Path, number: int) -> None:
    """Draw the views of the whole batch over all processes; save the rows that lie here."""
    from tests.knowledge import toy

    sharding = NamedSharding(Mesh(jax.devices(), "batch"), PartitionSpec("batch"))
    shared = [
        jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)
        for whole in (np.arange(BATCH), toy.IMAGES[:BATCH])
    ]
    for shard in draw(*shared).addressable_shards:
        start = shard.index[0].start or 0
        np.save(folder / f"views-{number}-{start}.npy", np.asarray(shard.data))


def main() -> None:
    """Join the others, draw, write."""
    port, number, count, folder, pause = sys.argv[1:]
    jax.distributed.initialize(f"localhost:{port}", int(count), int(number))
    from tests.knowledge import toy

    assert (jax.process_index(), jax.process_count()) == (int(number), int(count))
    draw_own(Path(folder), int(number))
    toy.write_toy(
        Path(folder) / "store",
        devices=None,
        on_progress=lambda progress: time.sleep(float(pause) * (progress.written > 0)),
    )


if __name__ == "__main__":
    main()
