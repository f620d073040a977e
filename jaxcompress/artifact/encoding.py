"""How the numbers of a leaf become bytes: as they are, or sparse, rounded and compressed.

An encoded leaf is one to three byte strings, each compressed by xz: `mask`, one bit per weight;
`values`, those of the weights that are not zero; `scales`, float32, one per output for int8.
"""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import ml_dtypes
import numpy as np

__all__ = ["Encoded", "Encoding", "decode", "encode", "part_names"]

Values = Literal["exact", "bfloat16", "int8"]
FLOATS = ("float32", "float64", "float16", "bfloat16")


@dataclass(frozen=True)
class Encoding:
    """How `save` stores floating-point leaves of two axes or more; others are stored as they are.

    Attributes:
        values: "exact" keeps every bit. "bfloat16" rounds to 8 significant bits: a relative error
            of at most 2^-8. "int8" rounds w to s_c q with q in -127..127 and s_c the largest
            |w| of output channel c (the last axis) / 127: an absolute error of at most s_c / 2.
        sparse: store a bit mask and the non-zero values where that is smaller.

    Raises:
        ValueError: if `values` is none of these.

    Example:
        >>> Encoding("int8")
        Encoding(values='int8', sparse=True)
    """

    values: Values = "exact"
    sparse: bool = True

    def __post_init__(self) -> None:
        if self.values not in get_args(Values):
            raise ValueError(
                f"values are stored as one of {get_args(Values)}, but values={self.values!r}"
            )


class Encoded(NamedTuple):
    """A leaf as bytes.

    Attributes:
        stored: plain description, from which `decode` knows what the parts are.
        parts: `uint8[bytes]` by name.
    """

    stored: dict[str, Any]
    parts: dict[str, np.ndarray]


def encode(array: np.ndarray, encoding: Encoding) -> Encoded | None:
    """Encode one leaf; None where it is stored as it is.

    Example:
        >>> encode(np.eye(64, dtype=np.float32), Encoding()).stored
        {'values': 'exact', 'sparse': True}
        >>> encode(np.ones(3, np.float32), Encoding()) is None
        True
    """
    if array.ndim < 2 or array.size == 0 or array.dtype.name not in FLOATS:
        return None
    numbers, scales = _rounded(array, encoding.values)
    flat = np.ascontiguousarray(numbers).reshape(-1)
    # Zero is what has no bit set: -0.0 is a value, so that "exact" is bitwise.
    is_kept = flat.view(f"u{flat.itemsize}") != 0
    is_sparse = encoding.sparse and is_kept.sum() * flat.itemsize + flat.size / 8 < flat.nbytes
    parts = {"values": flat[is_kept] if is_sparse else flat}
    if is_sparse:
        parts["mask"] = np.packbits(is_kept)
    if scales is not None:
        parts["scales"] = scales
    stored = {"values": encoding.values, "sparse": bool(is_sparse)}
    return Encoded(stored, {name: _packed(part) for name, part in parts.items()})


def part_names(stored: Mapping[str, Any]) -> list[str]:
    """Name the parts that a leaf stored so has.

    Example:
        >>> part_names({"values": "int8", "sparse": False})
        ['values', 'scales']
    """
    optional = {"mask": stored["sparse"], "scales": stored["values"] == "int8"}
    return ["values", *(name for name, is_there in optional.items() if is_there)]


def decode(
    stored: Mapping[str, Any], parts: Mapping[str, Any], shape: tuple[int, ...], dtype: str
) -> np.ndarray:
    """Decode what `encode` made, into the original shape and dtype.

    Raises:
        ValueError: if the parts are damaged or do not fit together.

    Example:
        >>> array = np.eye(64, dtype=np.float32)
        >>> encoded = encode(array, Encoding("int8"))
        >>> bool((decode(*encoded, array.shape, "float32") == array).all())
        True
    """
    kind = np.dtype({"int8": "int8", "bfloat16": ml_dtypes.bfloat16}.get(stored["values"], dtype))
    try:
        data = {name: lzma.decompress(bytes(part)) for name, part in parts.items()}
        values = np.frombuffer(data["values"], kind)
        if stored["sparse"]:
            count = int(np.prod(shape))
            flat = np.zeros(count, kind)
            bits = np.unpackbits(np.frombuffer(data["mask"], np.uint8), count=count)
            flat[bits.astype(bool)] = values
            values = flat
        values = values.reshape(shape)
        if stored["values"] == "int8":
            values = values.astype(np.float32) * np.frombuffer(data["scales"], np.float32)
    except (lzma.LZMAError, ValueError) as error:
        raise ValueError(f"the parts of an encoded leaf do not fit: {error}") from error
    return values.astype(np.dtype(dtype) if dtype != "bfloat16" else ml_dtypes.bfloat16)


def _rounded(array: np.ndarray, values: Values) -> tuple[np.ndarray, np.ndarray | None]:
    if values == "exact":
        return array, None
    if values == "bfloat16":
        return array.astype(ml_dtypes.bfloat16), None
    wide = array.astype(np.float32)
    largest = np.abs(wide).max(axis=tuple(range(array.ndim - 1)))
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(wide / scales).astype(np.int8), scales


def _packed(part: np.ndarray) -> np.ndarray:
    packed = lzma.compress(part.tobytes(), check=lzma.CHECK_NONE, preset=9)
    return np.frombuffer(packed, np.uint8)
