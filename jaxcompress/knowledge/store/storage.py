"""How the teacher's outputs become records: in which dtype, and of logits how many."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxcompress.arguments import integer, real, require

__all__ = ["DTYPES", "LOGITS", "Storage", "encode"]

LOGITS = "logits"
DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Storage:
    """How outputs are stored.

    Attributes:
        dtype: of everything but class indices.
        top_k: keep this many of the output called `logits`, largest first, as `logits/values`,
            `logits/indices` and `logits/rest` (see `losses.kd_top_k`), of each position of a
            sequence; None for all.
        temperature: at which `rest` sums up the classes that are left out, and students are
            compared: 1 is right for tokens, for classes of images take 4.
        block: examples per file: what is written, and lost by a kill, at once.
        chunk: examples that are read and decompressed together, a divisor of `block`.

    Raises:
        ValueError: if `chunk` does not divide `block`, a number is not positive, or the dtype is
            none of these.

    Example:
        >>> Storage(top_k=8).dtype
        'float16'
    """

    dtype: Literal["float32", "bfloat16", "float16"] = "float16"
    top_k: int | None = None
    temperature: float = 1.0
    block: int = 1024
    chunk: int = 16

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit each other, and dtypes that NaN or infinity vanish in."""
        require(
            top_k=integer(self.top_k, optional=True),
            temperature=real(self.temperature, above=0),
            block=integer(self.block),
            chunk=integer(self.chunk),
        )
        if self.dtype not in DTYPES:
            raise ValueError(f"outputs are stored as one of {DTYPES}, but dtype={self.dtype!r}")
        if self.block % self.chunk:
            raise ValueError(
                f"a block is a whole number of chunks, but block={self.block} and "
                f"chunk={self.chunk}; take powers of two"
            )


def encode(outputs: Mapping[str, jax.Array], storage: Storage) -> dict[str, jax.Array]:
    """Turn a teacher's outputs into what is stored of them.

    Args:
        outputs: `{name: [batch, ...]}`.
        storage: the settings.

    Returns:
        `{record name: [batch, ...]}`.

    Raises:
        ValueError: if `top_k` is set and there are no more logits than that.

    Example:
        >>> outputs = {"logits": jnp.array([[0.0, 2.0, 1.0]])}
        >>> encode(outputs, Storage(top_k=2))["logits/indices"].tolist()
        [[1, 2]]
    """
    dtype = jnp.dtype(storage.dtype)
    plain = {name: x for name, x in outputs.items() if name != LOGITS or storage.top_k is None}
    records = {name: jnp.asarray(x).astype(dtype) for name, x in plain.items()}
    if storage.top_k is not None:
        records |= _top_k(outputs, storage, dtype)
    return records


def _top_k(
    outputs: Mapping[str, jax.Array], storage: Storage, dtype: DTypeLike
) -> dict[str, jax.Array]:
    k = storage.top_k
    assert k is not None
    logits = outputs.get(LOGITS)
    if logits is None or logits.ndim < 2 or logits.shape[-1] <= k:
        shapes = {name: x.shape for name, x in outputs.items()}
        raise ValueError(
            f"top_k={k} leaves out some of an output `logits` [batch, ..., classes], but the "
            f"teacher's outputs are {shapes}; lower top_k or set it to None"
        )
    logits = logits.astype(jnp.float32)
    values, indices = jax.lax.top_k(logits, k)
    others = jnp.put_along_axis(logits, indices, -jnp.inf, axis=-1, inplace=False)
    temperature = storage.temperature
    rest = temperature * jax.nn.logsumexp(others / temperature, axis=-1)
    small = jnp.uint16 if logits.shape[-1] <= 1 << 16 else jnp.uint32
    return {
        f"{LOGITS}/values": values.astype(dtype),
        f"{LOGITS}/indices": indices.astype(small),
        f"{LOGITS}/rest": rest.astype(dtype),
    }
