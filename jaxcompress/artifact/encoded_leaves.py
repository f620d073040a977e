"""Leaves as the tensors that are written: encoded, and nothing of them lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from jaxcompress.artifact.encoding import Encoding, decode, encode, lost
from jaxcompress.artifact.structure import Leaf

__all__ = ["encoded"]


def encoded(
    arrays: Mapping[str, np.ndarray],
    described: Mapping[str, Leaf],
    encoding: Encoding | None,
    exact: Collection[str] = (),
) -> tuple[dict[str, np.ndarray], dict[str, Leaf]]:
    """Return the tensors to write, and the leaves described with how they are stored.

    Args:
        arrays: by path.
        described: what they are.
        encoding: how they become bytes; None for as they are.
        exact: paths of leaves that are not rounded, whatever the encoding says.

    Raises:
        ValueError: if a rounding encoding would lose numbers; all such leaves are named.

    Example:
        >>> from jaxcompress.artifact.leaves import describe
        >>> leaves = {"a": np.eye(8, dtype=np.float32)}
        >>> tensors, described = encoded(leaves, describe(leaves), Encoding())
        >>> sorted(tensors), described["a"].nonzero
        (['a:mask', 'a:values'], 8)
    """
    rounded = {path: array for path, array in arrays.items() if path not in exact}
    _check_lossless(rounded, described, encoding)
    whole = None if encoding is None else Encoding(sparse=encoding.sparse)
    tensors: dict[str, np.ndarray] = {}
    full: dict[str, Leaf] = {}
    for path, array in arrays.items():
        leaf = described[path]
        chosen = whole if path in exact else encoding
        one = None if chosen is None or leaf.key_impl else encode(array, chosen)
        if one is None:
            tensors[path] = array
            nonzero = None if leaf.key_impl else int(np.count_nonzero(array))
            full[path] = leaf._replace(nonzero=nonzero)
            continue
        tensors |= {f"{path}:{name}": part for name, part in one.parts.items()}
        back = decode(one.stored, one.parts, leaf.shape, leaf.dtype)
        full[path] = leaf._replace(nonzero=int(np.count_nonzero(back)), stored=one.stored)
    return tensors, full


def _check_lossless(
    arrays: Mapping[str, np.ndarray], described: Mapping[str, Leaf], encoding: Encoding | None
) -> None:
    if encoding is None:
        return
    plain = {path: array for path, array in arrays.items() if not described[path].key_impl}
    problems = {path: lost(array, encoding) for path, array in plain.items()}
    wrong = [f"{path} holds numbers that are {what}" for path, what in problems.items() if what]
    if wrong:
        raise ValueError(
            f"{encoding.values} rounds finite numbers within its range, but {'; '.join(wrong)}; "
            'mend these leaves, or save with Encoding("exact")'
        )
