"""A teacher of tokens whose outputs are exact, and which says NaN where there is padding."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcompress.annotations import Array, Batch
from jaxcompress.knowledge import Source, fingerprint, pad_sequences

VOCABULARY, WIDTH, LENGTH = 7, 3, 5
RNG = np.random.default_rng(1)
LENGTHS = [5, 0, 1, 3, 5, 2, 4, 1, 3]
SEQUENCES = [RNG.integers(0, VOCABULARY - 1, length) for length in LENGTHS]
DATA = pad_sequences(SEQUENCES, vocabulary=VOCABULARY)
# The last token stands for whatever may be at padding, and the teacher cannot bear it.
DIRTY = {**DATA, "tokens": np.where(DATA["mask"], DATA["tokens"], VOCABULARY - 1).astype(np.int32)}
MASK = itemgetter("mask")
EMBEDDING = RNG.integers(-3, 4, (VOCABULARY, WIDTH)).astype(np.float32)
EMBEDDING[-1] = np.nan
VARIABLES: dict[str, Array] = {
    "embedding": EMBEDDING,
    "kernel": RNG.normal(size=(WIDTH, VOCABULARY)).round(2),
}


def teacher(variables: Any, batch: Batch) -> dict[str, jax.Array]:
    """Logits and hidden states of each position, and the length of the whole."""
    hidden = jnp.asarray(variables["embedding"])[batch["tokens"]]
    logits = hidden @ jnp.asarray(variables["kernel"], jnp.float32)
    return {"logits": logits, "hidden": hidden, "length": batch["mask"].sum(-1)}


def source(data: Any = DIRTY) -> Source:
    """Return the sequences, padding and all."""
    return Source(data, len(LENGTHS), fingerprint(data), mask=MASK)


def expected() -> dict[str, np.ndarray]:
    """Return what a store holds, computed example by example."""
    logits, hidden = (np.zeros((len(LENGTHS), LENGTH, n)) for n in (VOCABULARY, WIDTH))
    for number, tokens in enumerate(SEQUENCES):
        hidden[number, : len(tokens)] = EMBEDDING[tokens]
        logits[number, : len(tokens)] = EMBEDDING[tokens] @ VARIABLES["kernel"]
    return {"logits": logits, "hidden": hidden, "length": np.array(LENGTHS)}
