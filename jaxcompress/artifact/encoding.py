"""How the numbers of a leaf become bytes: as they are, or sparse, rounded and compressed.

An encoded leaf is one to three byte strings, each compressed by xz: `mask`, one bit per weight;
`values`, those of the weights that are not zero; `scales`, float32, one per output for int8.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import ml_dtypes
import numpy as np

from jaxcompress.annotations import Array, Json

__all__ = [
    "Encoded",
    "Encoding",
    "decode",
    "encode",
    "is_encodable",
    "lost",
    "part_names",
    "problem",
]

Values = Literal["exact", "bfloat16", "int8"]
FLOATS = ("float32", "float64", "float16", "bfloat16")
CODES = ("int8", "uint8")
MOST_MEMORY = 66 * 2**20  # bytes to unpack with: xz's largest preset needs 65 MiB


@dataclass(frozen=True)
class Encoding:
    """How `save` stores floating-point leaves of two axes or more; others are stored as they are.

    Integers of 8 bits, and the scales of quantized kernels, keep every bit.

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

    stored: dict[str, Array]
    parts: dict[str, np.ndarray]


def encode(array: np.ndarray, encoding: Encoding) -> Encoded | None:
    """Encode one leaf; None where it is stored as it is.

    Example:
        >>> encode(np.eye(64, dtype=np.float32), Encoding()).stored
        {'values': 'exact', 'sparse': True}
        >>> encode(np.ones(3, np.float32), Encoding()) is None
        True
    """
    if not _is_encodable(array):
        return None
    values: Values = "exact" if array.dtype.name in CODES else encoding.values
    numbers, scales = _rounded(array, values)
    flat = np.ascontiguousarray(numbers).reshape(-1)
    # Zero is what has no bit set: -0.0 is a value, so that "exact" is bitwise.
    is_kept = flat.view(f"u{flat.itemsize}") != 0
    is_sparse = encoding.sparse and is_kept.sum() * flat.itemsize + flat.size / 8 < flat.nbytes
    parts = {"values": flat[is_kept] if is_sparse else flat}
    if is_sparse:
        parts["mask"] = np.packbits(is_kept)
    if scales is not None:
        parts["scales"] = scales
    stored: dict[str, Array] = {"values": values, "sparse": bool(is_sparse)}
    return Encoded(stored, {name: _packed(part) for name, part in parts.items()})


def _is_encodable(array: np.ndarray) -> bool:
    return is_encodable(array.shape, array.dtype.name)


def is_encodable(shape: tuple[int, ...], dtype: str, values: str = "exact") -> bool:
    """Tell whether leaves of a shape and dtype are encoded, and in this way.

    Example:
        >>> is_encodable((3, 2), "float32", "int8"), is_encodable((6,), "uint8", "int8")
        (True, False)
    """
    if dtype in CODES:
        return math.prod(shape) > 0 and len(shape) > 0 and values == "exact"
    return len(shape) >= 2 and math.prod(shape) > 0 and dtype in FLOATS


def lost(array: np.ndarray, encoding: Encoding) -> str | None:
    """Say which numbers of a leaf an encoding would not round but lose; None where none.

    Example:
        >>> lost(np.full((2, 2), 3.4e38, np.float32), Encoding("bfloat16"))
        'beyond the range of bfloat16'
        >>> lost(np.full((2, 2), np.nan, np.float32), Encoding("int8"))
        'NaN or infinity'
    """
    is_kept = encoding.values == "exact" or array.dtype.name in CODES
    if is_kept or not _is_encodable(array):
        return None
    if not np.isfinite(array).all():
        return "NaN or infinity"
    narrow = ml_dtypes.bfloat16 if encoding.values == "bfloat16" else np.float32
    with np.errstate(over="ignore"):
        is_in_range = np.isfinite(array.astype(narrow)).all()
    return None if is_in_range else f"beyond the range of {np.dtype(narrow).name}"


def problem(stored: Any) -> str | None:
    """Say why a value is no description of how a leaf is stored; None where it is one.

    Example:
        >>> problem({"values": "int8", "sparse": 1})
        "'sparse' is not true or false"
    """
    if not isinstance(stored, dict) or set(stored) != {"values", "sparse"}:
        return "it has 'values' and 'sparse', nothing else"
    if type(stored["sparse"]) is not bool:
        return "'sparse' is not true or false"
    is_known = isinstance(stored["values"], str) and stored["values"] in get_args(Values)
    return None if is_known else f"'values' is none of {get_args(Values)}"


def part_names(stored: Mapping[str, Array]) -> list[str]:
    """Name the parts that a leaf stored so has.

    Example:
        >>> part_names({"values": "int8", "sparse": False})
        ['values', 'scales']
    """
    optional = {"mask": stored["sparse"], "scales": stored["values"] == "int8"}
    return ["values", *(name for name, is_there in optional.items() if is_there)]


def decode(
    stored: Mapping[str, Array], parts: Mapping[str, Json], shape: tuple[int, ...], dtype: str
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
    kept = count = math.prod(shape)
    if stored["sparse"]:
        mask = np.frombuffer(_unpacked(parts, "mask", (count + 7) // 8), np.uint8)
        is_kept = np.unpackbits(mask, count=count).view(bool)
        kept = int(np.count_nonzero(is_kept))
    values = np.frombuffer(_unpacked(parts, "values", kept * kind.itemsize), kind)
    if stored["sparse"]:
        flat = np.zeros(count, kind)
        flat[is_kept] = values
        values = flat
    values = values.reshape(shape)
    with np.errstate(over="ignore"):
        if stored["values"] == "int8":
            values = values.astype(np.float32) * _scales(parts, shape[-1])
        decoded = values.astype(np.dtype(dtype) if dtype != "bfloat16" else ml_dtypes.bfloat16)
    if stored["values"] == "int8" and not np.isfinite(decoded).all():
        raise ValueError("the parts of an encoded leaf do not fit: its scales are beyond its dtype")
    return decoded


def _scales(parts: Mapping[str, Json], outputs: int) -> np.ndarray:
    scales = np.frombuffer(_unpacked(parts, "scales", 4 * outputs), np.float32)
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError("the parts of an encoded leaf do not fit: scales are finite and above 0")
    return scales


def _unpacked(parts: Mapping[str, Json], name: str, size: int) -> bytes:
    """Decompress a part, but never more than the bytes that it must have."""
    reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_MEMORY)
    try:
        data = reader.decompress(bytes(parts[name]), max_length=size + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"the parts of an encoded leaf do not fit: {name}: {error}") from error
    if len(data) != size or not reader.eof or reader.unused_data:
        raise ValueError(
            f"the parts of an encoded leaf do not fit: {name} must have {size} bytes, but it has "
            f"{'more' if len(data) > size else 'fewer, or others behind them'}"
        )
    return data


def _rounded(array: np.ndarray, values: Values) -> tuple[np.ndarray, np.ndarray | None]:
    if values == "exact":
        return array, None
    if values == "bfloat16":
        return array.astype(ml_dtypes.bfloat16), None
    wide = array.astype(np.float32)
    largest = np.abs(wide).max(axis=tuple(range(array.ndim - 1)))
    scales = np.where(largest > 0, largest / np.float32(127), 1).astype(np.float32)
    # The tiniest floats are so far apart that 127 of them may not reach.
    with np.errstate(over="ignore"):
        up, down = largest > 127.25 * scales, np.isinf(127 * scales)
    scales = np.where(up, np.nextafter(scales, np.float32(np.inf)), scales)
    # 127 times the scale of the largest float must not round to infinity.
    scales = np.where(down, np.nextafter(scales, np.float32(0)), scales)
    return np.rint(wide / scales).astype(np.int8), scales


def _packed(part: np.ndarray) -> np.ndarray:
    # A dictionary as large as the part finds the same; whoever unpacks it reserves as much.
    size = min(max(part.nbytes, 2**12), 2**26)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": size}]
    packed = lzma.compress(part.tobytes(), check=lzma.CHECK_NONE, filters=filters)
    return np.frombuffer(packed, np.uint8)
