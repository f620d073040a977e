"""Reading fixed knowledge: any batch of (example, view), the next ones under way."""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxcompress.annotations import Array, Batch, Json, PyTree
from jaxcompress.arguments import integer, require
from jaxcompress.knowledge.fingerprints import fingerprint
from jaxcompress.knowledge.source import Source
from jaxcompress.knowledge.store.arrays import Block, block_file, lacks_most, open_arrays, unwritten
from jaxcompress.knowledge.store.manifest import Manifest, differences, facts, read_manifest

__all__ = ["Request", "Store", "open_store"]

CACHE_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class Store:
    """Fixed knowledge on disk, opened for reading.

    Attributes:
        folder: where it lies.
        manifest: what it holds.
        arrays: `{record name: TensorStore [views, examples, ...]}`.
    """

    folder: str
    manifest: Manifest
    arrays: Mapping[str, Array]

    def request(self, examples: Batch, views: Any, names: Collection[str] | None = None) -> Request:
        """Start reading records, without waiting.

        Args:
            examples: `int[batch]`, their numbers in the data set, in any order.
            views: `int[batch]`, or one number for all.
            names: of the records; default all.

        Raises:
            TypeError: if the numbers are no integers.
            IndexError: if there is no such example or view.
            KeyError: if there is no such record.
        """
        numbers = {"examples": np.asarray(examples), "views": np.asarray(views)}
        wrong = {n: str(a.dtype) for n, a in numbers.items() if a.size and a.dtype.kind not in "iu"}
        if wrong:
            raise TypeError(f"records go by whole numbers, but these are of another kind: {wrong}")
        examples = numbers["examples"].astype(np.int64)
        views = np.broadcast_to(numbers["views"].astype(np.int64), examples.shape)
        self._check(examples, views, names or ())
        chosen = self.arrays if names is None else {name: self.arrays[name] for name in names}
        futures = {name: array.vindex[views, examples].read() for name, array in chosen.items()}
        for future in futures.values():
            future.force()
        return Request(self, examples, views, futures)

    def read(
        self, examples: Batch, views: Any, names: Collection[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Read records `{name: [batch, ...]}`, in the dtype of the store; see `request`."""
        return self.request(examples, views, names).result()

    def load(self, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """Read everything into memory: `{name: [examples, views, ...]}`.

        For stores that fit there, and training loops that keep their data on the device.
        """
        examples = np.arange(self.manifest.examples)
        columns = [self.read(examples, v, names) for v in range(self.manifest.views["count"])]
        return {name: np.stack([column[name] for column in columns], axis=1) for name in columns[0]}

    def prefetch(
        self,
        addresses: Iterable[tuple[Any, Any]],
        *,
        ahead: int = 2,
        names: Collection[str] | None = None,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Read batch after batch, with the next `ahead` ones under way while one is used.

        Args:
            addresses: pairs (examples, views), as `request` takes them.
            ahead: how many batches are requested before they are needed.
            names: of the records; default all.
        """
        waiting: deque[Request] = deque()
        for examples, views in addresses:
            waiting.append(self.request(examples, views, names))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _check(self, examples: np.ndarray, views: np.ndarray, names: Collection[str]) -> None:
        unknown = sorted(set(names) - set(self.arrays))
        if unknown:
            raise KeyError(f"the store has the records {sorted(self.arrays)}, but not {unknown}")
        limits = {"example": self.manifest.examples, "view": self.manifest.views["count"]}
        for (name, limit), values in zip(limits.items(), (examples, views), strict=True):
            wrong = values[(values < 0) | (values >= limit)]
            if wrong.size:
                raise IndexError(
                    f"{name}s are numbered from 0 to {limit - 1} in {self.folder}, but these are "
                    f"asked for: {np.unique(wrong)[:8].tolist()}"
                )


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """Records under way; `result()` waits for them."""

    store: Store
    examples: np.ndarray
    views: np.ndarray
    futures: Mapping[str, Array]

    def result(self) -> dict[str, np.ndarray]:
        """Return `{name: [batch, ...]}`.

        Raises:
            OSError: if a file is damaged or missing; each is named.
        """
        try:
            return {name: future.result() for name, future in self.futures.items()}
        except (ValueError, OSError) as error:
            raise self._damage(error) from error

    def _damage(self, error: Exception) -> OSError:
        """Say which files cannot be read, by reading the blocks one at a time."""
        manifest, size = self.store.manifest, self.store.manifest.storage["block"]
        numbers = (self.examples // size).tolist()
        touched = sorted(set(zip(self.views.tolist(), numbers, strict=True)))
        files = []
        for view, number in touched:
            block = Block(view, number * size, min((number + 1) * size, manifest.examples))
            for name in self.futures:
                if not self._readable(name, block):
                    files.append(str(block_file(self.store.folder, manifest, name, block)))
        return OSError(
            f"every chunk of a store is whole and has its checksum, but {files or error} cannot be "
            f"read ({error}); delete those files and call write with the same teacher, data and "
            "views: only they are written anew"
        )

    def _readable(self, name: str, block: Block) -> bool:
        try:
            self.store.arrays[name][block.view, block.start : block.stop].read().result()
        except (ValueError, OSError):
            return False
        return True


def open_store(
    folder: str | os.PathLike[str],
    *,
    variables: PyTree = None,
    source: Source | None = None,
    about: Mapping[str, Json] | None = None,
    partial: bool = False,
    cache_bytes: int = CACHE_BYTES,
) -> Store:
    """Open a store for reading, if it is what the reader takes it for.

    Args:
        folder: of the store.
        variables: of the teacher it must come from; None to take any.
        source: the data and views it must be of; None to take any.
        about: the facts it must agree on; None to take any.
        partial: open it although blocks are missing; reading one of those is an error.
        cache_bytes: memory for chunks that were read.

    Raises:
        FileNotFoundError: if the folder holds no store.
        ValueError: if the store is of another teacher, data set, view setting or format (each
            difference is named), damaged, or incomplete.

    Example:
        >>> import tempfile
        >>> import jax
        >>> from jaxcompress.knowledge.store.writing import write
        >>> teacher = lambda variables, images: {"logits": images.reshape(len(images), -1) * 1.0}
        >>> images = np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1)
        >>> source = Source(images, 6, "tiny", jax.random.key(0))
        >>> folder = tempfile.mkdtemp()
        >>> _ = write(folder, teacher, {}, source, batch_size=8)
        >>> open_store(folder, source=source).read([5, 1], 0)["logits"].tolist()
        [[20.0, 21.0, 22.0, 23.0], [4.0, 5.0, 6.0, 7.0]]
    """
    require(cache_bytes=integer(cache_bytes, least=0))
    manifest = read_manifest(folder)
    _check_same(folder, manifest, variables, source, about)
    if not partial and lacks_most(folder, manifest):
        raise ValueError(
            f"a store is read when all blocks are written, but {folder} lacks most of those that "
            "its manifest claims; call write again, or pass partial=True"
        )
    missing = [] if partial else unwritten(folder, manifest)
    if missing:
        raise ValueError(
            f"a store is read when all blocks are written, but {folder} lacks {len(missing)}, the "
            f"first of them view {missing[0].view}, examples {missing[0].start} to "
            f"{missing[0].stop - 1}; call write again, or pass partial=True"
        )
    arrays = open_arrays(folder, manifest, write=False, cache_bytes=cache_bytes)
    return Store(str(folder), manifest, arrays)


def _check_same(
    folder: str | os.PathLike[str],
    manifest: Manifest,
    variables: PyTree,
    source: Source | None,
    about: Mapping[str, Json] | None,
) -> None:
    expected: dict[str, Array] = {}
    if variables is not None:
        expected["teacher"] = fingerprint(variables)
    if source is not None:
        expected |= {"dataset": source.dataset, "examples": source.examples}
        expected["views"] = source.describe()
    if about is not None:
        expected["about"] = dict(about)
    stored = facts(manifest)
    offences = differences({name: stored[name] for name in expected}, expected)
    if offences:
        raise ValueError(
            f"stored knowledge is of one teacher, data set and view setting, but {folder} "
            f"differs: {'; '.join(offences)}; open the store that belongs to them, or write one"
        )
