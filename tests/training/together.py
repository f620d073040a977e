"""One of two processes under `jax.distributed` that hold parts of one data set.

``python -m tests.training.together PORT NUMBER FOLDER``; says in JSON what it found.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

# The first process holds more of the data than the second.
IMAGES = np.random.default_rng(0).normal(size=(21, 4)).astype(np.float32)
LABELS = np.arange(21) % 3
PARTS = (slice(0, 17), slice(17, 21))
VARIABLES = {"a": np.eye(4, 3, dtype=np.float32), "b": np.eye(3, dtype=np.float32)}


def apply(variables: Any, images: jax.Array) -> jax.Array:
    return jnp.tanh(images @ variables["a"]) @ variables["b"]


def loss(variables: Any, batch: Any) -> jax.Array:
    error = apply(variables, batch["image"]) - jnp.eye(3)[batch["label"]]
    return jnp.square(error).mean()


def replicated(mesh: Any) -> dict[str, bool]:
    """Say whether arrays of one process are copied to all devices of all."""
    from jaxcompress import parallel

    local = jax.device_put(np.arange(3.0), jax.local_devices()[1])
    tree = {"key": jax.random.key(7), "local": local, "host": np.arange(3)}
    whole = parallel.replicate(tree, mesh)
    again = parallel.replicate(whole, mesh)
    same = jax.random.key_data(again["key"].addressable_data(0)) == jax.random.key_data(tree["key"])
    return {
        "key": bool(same.all()),
        "local": np.asarray(again["local"]).tolist() == [0, 1, 2],
        "everywhere": all(leaf.sharding.num_devices == 4 for leaf in jax.tree.leaves(again)),
        "one": parallel.on_one_device(again)["local"].devices() == {jax.local_devices()[0]},
    }


def scored(mesh: Any) -> dict[str, Any]:
    """Score by batches that are spread over both processes."""
    from jaxcompress import graph, parallel
    from jaxcompress.graph.budget import Budget
    from jaxcompress.prune import importance
    from jaxcompress.prune.learned import learn_gates

    network = graph.trace(apply, VARIABLES, IMAGES)
    variables, sharding = parallel.replicate(VARIABLES, mesh), parallel.batch_sharding(mesh, 1)
    rounds = {
        "image": np.stack([IMAGES[:8], IMAGES[8:16]]),
        # Of one class in the part of each process, of two in all.
        "label": np.stack([np.arange(8) // 4, np.arange(8) // 4]),
    }
    batches = jax.tree.map(
        lambda leaf: jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__), rounds
    )
    support = jax.tree.map(lambda leaf: leaf[:, None], batches)
    scores = {"a[1]": np.arange(1.0, 4.0)}
    # Adam would make a step of the rounding of an offset that is 0: one group has nothing to gain.
    options: Any = {"query": batches, "support": support, "optimizer": optax.sgd(0.1)}
    results = {
        "taylor": importance.taylor(network, loss, variables, batches),
        "fisher": importance.fisher(network, loss, variables, batches, key=jax.random.key(0)),
        "meta": importance.meta(network, loss, variables, support, batches),
        "learned": learn_gates(network, loss, variables, scores, Budget(params=0.6), **options),
    }
    return {name: np.asarray(result["a[1]"]).tolist() for name, result in results.items()}


WIDE = {
    "a": np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32),
    "b": np.random.default_rng(2).normal(size=(8, 4)).astype(np.float32),
}
"""Split over all devices of both processes."""


def compressed(variables: Any) -> dict[str, Any]:
    """Shrink, factorize and mask variables, and keep them as an artifact."""
    import jaxcompress as jc

    network = jc.trace(apply, WIDE, IMAGES)
    prune = jc.shrink(network, {"a[1]": np.arange(8) % 2 == 0})
    lowrank = jc.factorize(network, {"b": 2})
    masks = jc.sparse.make_masks(variables, 0.5)
    return {
        "shrunk": prune.variables(variables),
        "factors": lowrank.variables(variables),
        "masks": jax.tree.map(lambda mask: mask * 1.0, masks),
        "masked": jc.sparse.masked(variables, masks),
    }


def saved(variables: Any, folder: str) -> Any:
    """Return variables as an artifact has them, laid out as they were."""
    import jaxcompress as jc

    jc.save(folder, jc.chain(), variables)
    return jc.load(folder, apply, like=variables)[1]


def split(mesh: Any, folder: str) -> dict[str, Any]:
    """Say what has become of variables that are split, and the part that a device holds of each."""
    from jaxcompress import parallel
    from jaxcompress.paths import flatten_with_paths

    layouts = {"a": parallel.batch_sharding(mesh, 1), "b": parallel.batch_sharding(mesh)}
    variables = {
        name: jax.make_array_from_callback(array.shape, layouts[name], array.__getitem__)
        for name, array in WIDE.items()
    }
    made, _ = flatten_with_paths({**compressed(variables), "saved": saved(variables, folder)})
    return {
        path: [parallel.on_host(leaf).tolist(), leaf.addressable_data(0).size / leaf.size]
        for path, leaf in made.items()
    }


def main() -> None:
    """Join the other; evaluate, replicate, score and compress."""
    port, number, folder = sys.argv[1:]
    jax.distributed.initialize(f"localhost:{port}", 2, int(number))
    from jaxcompress import parallel, training

    mesh, part = parallel.mesh(), PARTS[int(number)]
    images, labels = IMAGES[part], LABELS[part]
    evaluated = training.evaluate(apply, VARIABLES, images, labels, batch_size=4, mesh=mesh)
    wrong = labels + 7 * int(number)
    try:
        training.evaluate(apply, VARIABLES, images, wrong, batch_size=4, mesh=mesh)
        refused = ""
    except (ValueError, RuntimeError) as error:
        refused = str(error)
    said: Any = {"evaluated": evaluated, "refused": refused, "split": split(mesh, folder)}
    print(json.dumps({**said, "replicated": replicated(mesh), "scored": scored(mesh)}))


if __name__ == "__main__":
    main()
