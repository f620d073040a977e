"""A teacher whose outputs are exact in any order of summation, and a store of it to write.

Run as a module it writes that store, so that tests can share it among processes and kill one:
``python -m tests.knowledge.toy FOLDER NUMBER COUNT PAUSE``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress import parallel
from jaxcompress.knowledge import Source, Views, fingerprint
from jaxcompress.knowledge.store import Manifest, Storage, write

EXAMPLES, VIEWS = 45, 2
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (EXAMPLES, 4, 4, 1), dtype=np.uint8)
KEY = jax.random.key(7)
VARIABLES = {"kernel": RNG.integers(-3, 4, (16, 6)).astype(np.float32)}
SOURCE = Source(
    IMAGES,
    EXAMPLES,
    fingerprint(IMAGES),
    KEY,
    views=VIEWS,
    settings=Views(pad=1, brightness=0.2),
)
STORAGE = Storage(dtype="float32", block=8, chunk=2)
ABOUT = {"scale": 1.0}


def teacher(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
    """Linear logits of whole numbers, and the image itself as a feature map called `block/0`."""
    flat = images.reshape(len(images), -1).astype(jnp.float32)
    return {"logits": flat @ variables["kernel"], "block/0": images.astype(jnp.float32)}


def write_toy(folder: str | Path, devices: int | None = 1, **options: Any) -> Manifest:
    """Write the store of the toy teacher, on this many devices; None for the default of `write`."""
    mesh = None if devices is None else parallel.mesh(jax.devices()[:devices])
    settings: dict[str, Any] = {"storage": STORAGE, "batch_size": 8, "about": ABOUT, **options}
    return write(folder, teacher, VARIABLES, SOURCE, mesh=mesh, **settings)


def files(folder: str | Path) -> dict[str, bytes]:
    """Return the content of every file of the records."""
    root = Path(folder) / "records"
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


if __name__ == "__main__":
    pause = float(sys.argv[4])
    write_toy(
        sys.argv[1],
        part=(int(sys.argv[2]), int(sys.argv[3])),
        on_progress=lambda progress: time.sleep(pause * (progress.written > 0)),
    )
